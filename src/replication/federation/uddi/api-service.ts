import { type Outcome, refusal, uddiCodeOf } from '../core/index.ts';
import {
  foundAnswer,
  foundHitsMax,
  type Hit,
  isScan,
  type Nested,
  nestedFind,
  type Scan,
} from './find.ts';
import type { PublicationAnswer } from './publication.ts';
import { envelope, faultOf, messageIn } from './replication-service.ts';
import { checkShape, isMessage } from './shapes.ts';
import { apiXml, custodyXml } from './wire.ts';
import { childOf, childText, element, type XmlElement } from './xml-element.ts';

/** What UDDI's APIs need of a registry and of those who know its publishers. */
export interface RegistryAccess {
  /** All of a message in one commit, or nothing. */
  publish(message: XmlElement, publisher: string): Promise<PublicationAnswer>;
  inquire(message: XmlElement): Promise<XmlElement>;
  scan(message: XmlElement, publisher: string, nested: Nested, after?: string): Promise<Scan>;
  /** What became of a change of this node; waits a while for one that is pending. */
  settled(usn: number): Promise<Outcome | undefined>;
  readonly tokens: Tokens;
  readonly custody: Custody;
}

/** Tokens by which publishers are known. All throw `REGISTRY_REFUSED` with UDDI's code. */
export interface Tokens {
  /** `E_unknownUser` for a wrong name or password. */
  issue(user: string, password: string): Promise<string>;
  /** `E_authTokenRequired`, `E_authTokenExpired`. */
  publisherOf(token: string): string;
  discard(token: string): void;
}

/** Handing over entities; see UDDI 3.0.2, §5.4. */
export interface Custody {
  /** A `transferToken` for these keys. */
  offer(publisher: string, keys: readonly string[]): Promise<XmlElement>;
  accept(publisher: string, token: XmlElement, keys: readonly string[]): Promise<void>;
  discard(publisher: string, token: string | undefined, keys: readonly string[]): Promise<void>;
}

/**
 * Answers one SOAP message of UDDI's publication, inquiry, security and custody APIs.
 *
 * A publication that waits for other nodes longer than `settled` does is answered with `E_busy`, and
 * takes effect later or never.
 *
 * @returns the answer's body and HTTP status; it never throws.
 */
export async function answerApi(
  registry: RegistryAccess,
  text: string,
): Promise<{ readonly status: number; readonly body: string }> {
  try {
    const message = messageIn(text);
    if (message === undefined) throw refusal('E_fatalError', 'no message');
    if (!isMessage(message.name)) throw refusal('E_unsupported', `${message.name} is no message`);
    checkShape(message);
    const answer = await apiAnswer(registry, message);
    const write = answer?.name === 'transferToken' ? custodyXml : apiXml;
    return { status: 200, body: envelope(answer === undefined ? '' : write(answer)) };
  } catch (error) {
    return { status: 500, body: faultOf(error) };
  }
}

async function apiAnswer(
  registry: RegistryAccess,
  message: XmlElement,
): Promise<XmlElement | undefined> {
  const { name } = message;
  if (name === 'get_authToken') {
    const { userID = '', cred = '' } = message.attributes;
    const text = await registry.tokens.issue(userID, cred);
    return element('authToken', { children: [element('authInfo', { text })] });
  }
  const token = childText(message, 'authInfo') ?? '';
  if (name === 'discard_authToken') {
    registry.tokens.discard(token);
    return undefined;
  }
  if (/^(find_|get_.*Detail$|get_operationalInfo$)/.test(name)) {
    return isScan(name) ? await found(registry, message, '') : await registry.inquire(message);
  }
  const publisher = registry.tokens.publisherOf(token);
  if (isScan(name)) return await found(registry, message, publisher);
  const keys = (childOf(message, 'keyBag')?.children ?? []).map(({ text }) =>
    text.trim().toLowerCase(),
  );
  switch (name) {
    case 'get_transferToken':
      return await registry.custody.offer(publisher, keys);
    case 'transfer_entities': {
      const transferToken = childOf(message, 'transferToken');
      if (transferToken === undefined) throw refusal('E_fatalError', 'no token');
      await registry.custody.accept(publisher, transferToken, keys);
      return undefined;
    }
    case 'discard_transferToken': {
      const transferToken = childOf(message, 'transferToken');
      const opaque =
        transferToken === undefined ? undefined : childText(transferToken, 'opaqueToken');
      await registry.custody.discard(publisher, opaque, keys);
      return undefined;
    }
  }
  return await published(registry, message, publisher);
}

async function published(
  registry: RegistryAccess,
  message: XmlElement,
  publisher: string,
): Promise<XmlElement | undefined> {
  const { answer, pending } = await registry.publish(message, publisher);
  for (const usn of pending) {
    const outcome = await registry.settled(usn);
    if (outcome?.state === 'committed') continue;
    if (outcome?.state === 'failed') {
      const code = uddiCodeOf(new Error(outcome.reason));
      const by = `${outcome.by}: ${outcome.reason}`;
      throw refusal(code === 'E_fatalError' ? 'E_requestDenied' : code, by);
    }
    throw refusal('E_busy', `change ${usn} waits for the other nodes`);
  }
  return answer;
}

async function found(
  registry: RegistryAccess,
  message: XmlElement,
  publisher: string,
): Promise<XmlElement> {
  const inner = nestedFind(message);
  const nested: Nested =
    inner === undefined
      ? {}
      : { tModels: (await hitsOf(registry, inner, publisher, {})).map(({ key }) => key) };
  return foundAnswer(message, await hitsOf(registry, message, publisher, nested));
}

async function hitsOf(
  registry: RegistryAccess,
  message: XmlElement,
  publisher: string,
  nested: Nested,
): Promise<readonly Hit[]> {
  const hits: Hit[] = [];
  for (let after: string | undefined, more = true; more; ) {
    const page = await registry.scan(message, publisher, nested, after);
    hits.push(...page.hits);
    if (hits.length > foundHitsMax) {
      throw refusal('E_resultSetTooLarge', `more than ${foundHitsMax} would be found`);
    }
    after = page.next;
    more = after !== undefined;
  }
  return hits;
}
