import { type Draft, type Published, refusal, type StoredEntity } from '../core/index.ts';
import { draftOf } from './draft.ts';
import { finderOf, foundRowsMax } from './find.ts';
import { envelope, faultOf, messageIn } from './replication-service.ts';
import { apiXml } from './wire.ts';
import { element, type XmlElement } from './xml.ts';

/** What the publication and inquiry APIs need of a registry, on behalf of one publisher. */
export interface RegistryAccess {
  readonly publisher: string;
  /** A key that was never used. */
  newKey(): string;
  entity(key: string): Promise<StoredEntity | undefined>;
  /** All entities, tombstones too. */
  entities(): AsyncIterable<StoredEntity>;
  /** All of them in one commit, or none. */
  save(drafts: readonly Draft[]): Promise<readonly Published[]>;
  remove(keys: readonly string[]): Promise<void>;
  hide(keys: readonly string[]): Promise<void>;
}

const keyNames = { business: 'businessKey', tModel: 'tModelKey' } as const;

/**
 * Answers one SOAP message of UDDI's publication and inquiry APIs: `save_`, `delete_`, `find_` of
 * business and tModel, `get_businessDetail`, `get_tModelDetail`.
 *
 * A save that waits for other nodes is answered with `E_busy`, and takes effect later or never.
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
    return { status: 200, body: envelope(apiXml(await apiAnswer(registry, message))) };
  } catch (error) {
    return { status: 500, body: faultOf(error) };
  }
}

async function apiAnswer(registry: RegistryAccess, message: XmlElement): Promise<XmlElement> {
  switch (message.name) {
    case 'save_business':
      return await saved(registry, message, 'businessEntity', 'businessDetail');
    case 'save_tModel':
      return await saved(registry, message, 'tModel', 'tModelDetail');
    case 'delete_business':
      await registry.remove(keysIn(message, 'businessKey'));
      return success();
    case 'delete_tModel':
      await registry.hide(keysIn(message, 'tModelKey'));
      return success();
    case 'get_businessDetail':
      return await details(registry, message, 'business', 'businessDetail');
    case 'get_tModelDetail':
      return await details(registry, message, 'tModel', 'tModelDetail');
    case 'find_business':
      return await found(registry, message, 'business', [
        'businessList',
        'businessInfos',
        'businessInfo',
      ]);
    case 'find_tModel':
      return await found(registry, message, 'tModel', ['tModelList', 'tModelInfos', 'tModelInfo']);
    default:
      throw refusal('E_unsupported', `${message.name} is not understood`);
  }
}

async function saved(
  registry: RegistryAccess,
  message: XmlElement,
  name: string,
  answer: string,
): Promise<XmlElement> {
  const sent = message.children.filter((child) => child.name !== 'authInfo');
  if (sent.length === 0 || sent.some((child) => child.name !== name)) {
    throw refusal('E_fatalError', `${message.name} takes ${name}`);
  }
  const drafts = sent.map((one) => draftOf(one, registry.publisher, () => registry.newKey()));
  const published = await registry.save(drafts);
  const waiting = published.find(({ state }) => state === 'pending');
  if (waiting !== undefined) {
    throw refusal('E_busy', `change ${waiting.change.usn} waits for the other nodes`);
  }
  return element(answer, { children: drafts.map(({ content }) => content as XmlElement) });
}

function keysIn(message: XmlElement, name: string): string[] {
  const keys = message.children.filter((child) => child.name !== 'authInfo');
  if (keys.length === 0 || keys.some((child) => child.name !== name)) {
    throw refusal('E_fatalError', `${message.name} takes ${name}`);
  }
  return keys.map(({ text }) => text.trim().toLowerCase());
}

async function details(
  registry: RegistryAccess,
  message: XmlElement,
  kind: 'business' | 'tModel',
  answer: string,
): Promise<XmlElement> {
  const children: XmlElement[] = [];
  for (const key of keysIn(message, keyNames[kind])) {
    const stored = await registry.entity(key);
    if (stored === undefined || stored.deletedMs !== undefined || stored.entity.kind !== kind) {
      throw refusal('E_invalidKeyPassed', `${key} is no ${kind}`, { key });
    }
    const content = stored.entity.content as XmlElement;
    // A hidden tModel is still shown to who asks for it by key.
    children.push(
      stored.entity.hidden
        ? { ...content, attributes: { ...content.attributes, deleted: 'true' } }
        : content,
    );
  }
  return element(answer, { children });
}

async function found(
  registry: RegistryAccess,
  message: XmlElement,
  kind: 'business' | 'tModel',
  [list, infos, info]: readonly [string, string, string],
): Promise<XmlElement> {
  const finder = finderOf(message);
  const maxRows = rowNumber(message, 'maxRows', foundRowsMax);
  const listHead = rowNumber(message, 'listHead', 1);
  const all: StoredEntity[] = [];
  for await (const stored of registry.entities()) {
    const { entity, deletedMs } = stored;
    if (deletedMs !== undefined || entity.hidden || entity.kind !== kind) continue;
    if (finder.matches(stored)) all.push(stored);
  }
  const page = finder
    .sorted(all)
    .slice(listHead - 1, listHead - 1 + Math.min(maxRows, foundRowsMax));
  const rows = page.map(({ entity }) =>
    element(info, {
      attributes: { [keyNames[kind]]: entity.key },
      children: (entity.content as XmlElement).children.filter(
        ({ name }) => name === 'name' || name === 'description',
      ),
    }),
  );
  const numbers = { includeCount: page.length, actualCount: all.length, listHead };
  const description = element('listDescription', {
    children: Object.entries(numbers).map(([name, value]) =>
      element(name, { text: String(value) }),
    ),
  });
  const truncated = listHead - 1 + page.length < all.length;
  return element(list, {
    ...(truncated ? { attributes: { truncated: 'true' } } : {}),
    children: [description, ...(rows.length > 0 ? [element(infos, { children: rows })] : [])],
  });
}

function rowNumber(message: XmlElement, name: string, otherwise: number): number {
  const value = Number(message.attributes[name] ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw refusal('E_invalidValue', `${name} is a number from 1 on`);
  }
  return value;
}

function success(): XmlElement {
  return element('dispositionReport', {
    children: [element('result', { attributes: { errno: '0' } })],
  });
}
