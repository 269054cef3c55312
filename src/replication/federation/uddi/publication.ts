import {
  type AssertionSide,
  type Draft,
  get,
  hideEntity,
  type Published,
  refusal,
  removeEntity,
  rows,
  rowsUnder,
  type Step,
  type StoredEntity,
  save,
} from '../core/contract-core.ts';
import { assertionDraft, assertionIn } from './assertion-draft.ts';
import { draftOf, keyAttributes } from './draft.ts';
import { entityWith, partWithKey, withBinding, withoutPart, withService } from './parts.ts';
import { checkShape } from './shapes.ts';
import { element, type XmlElement } from './xml-element.ts';

/** Who publishes, when, and new keys for what comes without. */
export interface Publication {
  readonly publisher: string;
  readonly nowMs: number;
  /** A key that was never used, in the node's home prefix. */
  newKey(): string;
}

/** What came of a message: the answer, and the changes that wait for other nodes. */
export interface PublicationAnswer {
  /** Absent: the answer is empty. */
  readonly answer?: XmlElement;
  /** USNs; see `outcomeOf`. */
  readonly pending: readonly number[];
}

/** Assertions that one publisher's `set_publisherAssertions` looks through. */
const assertionsMax = 5_000;

/**
 * Carries out one message of UDDI's publication API: all of it, in one commit, or nothing.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with UDDI's code.
 */
export function* publication(message: XmlElement, call: Publication): Step<PublicationAnswer> {
  checkShape(message);
  const sent = message.children.filter(({ name }) => name !== 'authInfo');
  switch (message.name) {
    case 'save_business':
      return yield* saved(sent, 'businessDetail', call, saveWhole);
    case 'save_tModel':
      return yield* saved(sent, 'tModelDetail', call, saveWhole);
    case 'save_service':
      return yield* saved(sent, 'serviceDetail', call, saveService);
    case 'save_binding':
      return yield* saved(sent, 'bindingDetail', call, saveBinding);
    case 'delete_business':
      for (const key of keysOf(sent)) {
        yield* entityWith(key, 'businessEntity');
        yield* removeEntity(key, call.publisher, call.nowMs);
      }
      return done;
    case 'delete_tModel':
      for (const key of keysOf(sent)) yield* hideEntity(key, call.publisher, call.nowMs);
      return done;
    case 'delete_service':
      return yield* dropParts(keysOf(sent), 'businessService', call);
    case 'delete_binding':
      return yield* dropParts(keysOf(sent), 'bindingTemplate', call);
    case 'add_publisherAssertions':
      for (const one of sent) yield* assertOne(one, call);
      return done;
    case 'delete_publisherAssertions':
      for (const one of sent) yield* retractOne(one, call);
      return done;
    case 'set_publisherAssertions':
      return yield* setAssertions(sent, call);
    default:
      throw refusal('E_unsupported', `${message.name} is not understood`);
  }
}

const done: PublicationAnswer = { pending: [] };

function keysOf(sent: readonly XmlElement[]): readonly string[] {
  return sent.map(({ text }) => text.trim().toLowerCase());
}

interface Saved {
  readonly published: Published;
  readonly part: XmlElement;
}

function* saved(
  sent: readonly XmlElement[],
  name: string,
  call: Publication,
  saveOne: (one: XmlElement, call: Publication) => Step<Saved>,
): Step<PublicationAnswer> {
  const children: XmlElement[] = [];
  const pending: number[] = [];
  for (const one of sent) {
    const { published, part } = yield* saveOne(one, call);
    children.push(part);
    if (published.state === 'pending') pending.push(published.change.usn);
  }
  return { answer: element(name, { children }), pending };
}

function* saveWhole(one: XmlElement, call: Publication): Step<Saved> {
  // Whether it is hidden is for `delete_tModel` to say; saving it shows it again.
  const { deleted: _deleted, ...attributes } = one.attributes;
  const draft = draftOf({ ...one, attributes }, call.publisher, () => call.newKey());
  const published = yield* save({ ...draft, visible: true }, call.nowMs);
  return { published, part: draft.content as XmlElement };
}

function* saveService(one: XmlElement, call: Publication): Step<Saved> {
  const businessKey = (one.attributes.businessKey ?? '').trim().toLowerCase();
  if (businessKey === '') throw refusal('E_invalidKeyPassed', 'a service names its business');
  const { part: business } = yield* entityWith(businessKey, 'businessEntity');
  const service = withKey(one, call);
  return yield* saveBusiness(withService(business, service), service, call);
}

function* saveBinding(one: XmlElement, call: Publication): Step<Saved> {
  const serviceKey = (one.attributes.serviceKey ?? '').trim().toLowerCase();
  if (serviceKey === '') throw refusal('E_invalidKeyPassed', 'a binding names its service');
  const { stored } = yield* entityWith(serviceKey, 'businessService');
  const binding = withKey(one, call);
  const business = withBinding(stored.entity.content as XmlElement, serviceKey, binding);
  return yield* saveBusiness(business, binding, call);
}

/** With its key in lower case, or a new one. */
function withKey(one: XmlElement, call: Publication): XmlElement {
  const keyName = keyAttributes[one.name] ?? '';
  const key = (one.attributes[keyName] ?? '').trim().toLowerCase() || call.newKey();
  return { ...one, attributes: { ...one.attributes, [keyName]: key } };
}

function* saveBusiness(business: XmlElement, part: XmlElement, call: Publication): Step<Saved> {
  const draft: Draft = draftOf(business, call.publisher, () => call.newKey());
  const key = part.attributes[keyAttributes[part.name] ?? ''] ?? '';
  const stands = partWithKey(draft.content as XmlElement, key);
  // A service's key that is already elsewhere is refused below: one key, one entity.
  const published = yield* save(draft, call.nowMs);
  return { published, part: stands ?? part };
}

function* dropParts(
  keys: readonly string[],
  name: string,
  call: Publication,
): Step<PublicationAnswer> {
  for (const key of keys) {
    const { stored } = yield* entityWith(key, name);
    const content = withoutPart(stored.entity.content as XmlElement, key);
    yield* save(
      draftOf(content, call.publisher, () => call.newKey()),
      call.nowMs,
    );
  }
  return done;
}

const sides: readonly AssertionSide[] = ['from', 'to'];

/** The sides of an assertion whose businesses the publisher has. */
function* ownSides(one: XmlElement, publisher: string): Step<readonly AssertionSide[]> {
  const { fromKey, toKey } = assertionIn(one);
  const own: AssertionSide[] = [];
  for (const side of sides) {
    const { stored } = yield* entityWith(side === 'from' ? fromKey : toKey, 'businessEntity');
    if (stored.entity.publisher === publisher) own.push(side);
  }
  if (own.length === 0) {
    throw refusal('E_userMismatch', `neither ${fromKey} nor ${toKey} is yours`);
  }
  return own;
}

function* assertOne(one: XmlElement, call: Publication): Step<void> {
  for (const side of yield* ownSides(one, call.publisher)) {
    const draft = { ...assertionDraft(one, side), publisher: call.publisher };
    const stored = yield* get<StoredEntity>(rows.entity(draft.key));
    if (stored === undefined || stored.deletedMs !== undefined) yield* save(draft, call.nowMs);
  }
}

function* retractOne(one: XmlElement, call: Publication): Step<void> {
  let found = false;
  for (const side of sides) {
    const { key } = assertionDraft(one, side);
    const stored = yield* get<StoredEntity>(rows.entity(key));
    if (stored === undefined || stored.deletedMs !== undefined) continue;
    const { fromKey, toKey } = assertionIn(one);
    const { stored: business } = yield* entityWith(
      side === 'from' ? fromKey : toKey,
      'businessEntity',
    );
    if (business.entity.publisher !== call.publisher) continue;
    yield* removeEntity(key, call.publisher, call.nowMs);
    found = true;
  }
  if (!found) throw refusal('E_assertionNotFound', 'you have made no such assertion');
}

function* setAssertions(sent: readonly XmlElement[], call: Publication): Step<PublicationAnswer> {
  const wanted = new Set<string>();
  for (const one of sent) {
    for (const side of yield* ownSides(one, call.publisher)) {
      wanted.add(assertionDraft(one, side).key);
    }
  }
  const all = yield* rowsUnder('entity|assertion:', assertionsMax);
  if (all.length === assertionsMax) {
    throw refusal('E_resultSetTooLarge', 'too many assertions: add and delete them one by one');
  }
  for (const { value } of all) {
    const stored = value as StoredEntity;
    if (stored.deletedMs !== undefined || wanted.has(stored.entity.key)) continue;
    if ((yield* assertedBy(stored)) !== call.publisher) continue;
    yield* removeEntity(stored.entity.key, call.publisher, call.nowMs);
  }
  for (const one of sent) yield* assertOne(one, call);
  const children: XmlElement[] = [];
  for (const one of sent) children.push(assertionDraft(one, 'from').content);
  return { answer: element('publisherAssertions', { children }), pending: [] };
}

/** The publisher of the business at whose side an assertion stands. */
export function* assertedBy(stored: StoredEntity): Step<string | undefined> {
  const { fromKey, toKey } = assertionIn(stored.entity.content as XmlElement);
  const key = stored.entity.key.startsWith('assertion:from:') ? fromKey : toKey;
  return (yield* get<StoredEntity>(rows.entity(key)))?.entity.publisher;
}
