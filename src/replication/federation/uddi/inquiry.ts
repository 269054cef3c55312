import {
  assertionKeyOf,
  get,
  holderOf,
  readAssertionKey,
  refusal,
  rows,
  rowsUnder,
  type Step,
  type StoredEntity,
} from '../core/contract-core.ts';
import { assertionIn } from './assertion-draft.ts';
import { details } from './parts.ts';
import { checkShape } from './shapes.ts';
import { childOf, childText, element, type XmlElement } from './xml-element.ts';

/** Assertions of one side of a business that `find_relatedBusinesses` looks at. */
const relationsMax = 1_000;

/**
 * Answers one message of UDDI's inquiry API that names what it is about: `get_…Detail`,
 * `get_operationalInfo`, `find_relatedBusinesses`. Other finds are scans.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with UDDI's code.
 */
export function* inquiry(message: XmlElement): Step<XmlElement> {
  checkShape(message);
  const keys = message.children
    .filter(({ name }) => name !== 'authInfo')
    .map(({ text }) => text.trim().toLowerCase());
  switch (message.name) {
    case 'get_businessDetail':
      return yield* details(keys, 'businessEntity', 'businessDetail');
    case 'get_serviceDetail':
      return yield* details(keys, 'businessService', 'serviceDetail');
    case 'get_bindingDetail':
      return yield* details(keys, 'bindingTemplate', 'bindingDetail');
    case 'get_tModelDetail':
      return yield* details(keys, 'tModel', 'tModelDetail');
    case 'get_operationalInfo':
      return yield* operationalInfos(keys);
    case 'find_relatedBusinesses':
      return yield* relatedBusinesses(message);
    default:
      throw refusal('E_unsupported', `${message.name} is not understood`);
  }
}

function* operationalInfos(keys: readonly string[]): Step<XmlElement> {
  const children: XmlElement[] = [];
  for (const key of keys) {
    const stored = yield* holderOf(key);
    if (stored === undefined || stored.deletedMs !== undefined) {
      throw refusal('E_invalidKeyPassed', `${key} does not exist`, { key });
    }
    const { createdMs, modifiedMs, owner, publisher } = stored.entity;
    const text = (name: string, value: string): XmlElement => element(name, { text: value });
    children.push(
      element('operationalInfo', {
        attributes: { entityKey: key },
        children: [
          text('created', new Date(createdMs).toISOString()),
          text('modified', new Date(modifiedMs).toISOString()),
          text('modifiedIncludingChildren', new Date(modifiedMs).toISOString()),
          text('nodeID', owner),
          text('authorizedName', publisher),
        ],
      }),
    );
  }
  return element('operationalInfos', { children });
}

interface Relation {
  readonly direction: 'fromKey' | 'toKey';
  readonly other: string;
  readonly assertion: XmlElement;
}

/** Relations of a business on which both sides agree. */
export function* relationsOf(
  business: string,
  which: 'businessKey' | 'fromKey' | 'toKey',
): Step<readonly Relation[]> {
  const found: Relation[] = [];
  for (const side of ['from', 'to'] as const) {
    if (which !== 'businessKey' && which !== `${side}Key`) continue;
    const prefix = rows.entity(assertionKeyOf({ side, business, digest: '' }));
    for (const { value } of yield* rowsUnder(prefix, relationsMax)) {
      const { entity, deletedMs } = value as StoredEntity;
      const own = readAssertionKey(entity.key);
      if (deletedMs !== undefined || own === undefined || own.business !== business) continue;
      const assertion = entity.content as XmlElement;
      const { fromKey, toKey } = assertionIn(assertion);
      const other = side === 'from' ? toKey : fromKey;
      const opposite = side === 'from' ? 'to' : 'from';
      const key = assertionKeyOf({ side: opposite, business: other, digest: own.digest });
      const agreed = yield* get<StoredEntity>(rows.entity(key));
      if (agreed === undefined || agreed.deletedMs !== undefined) continue;
      found.push({ direction: `${side}Key`, other, assertion });
    }
  }
  return found;
}

/** Which business a `find_relatedBusinesses` asks about, and in which role. */
export function relatedQuestion(message: XmlElement): {
  readonly which: 'businessKey' | 'fromKey' | 'toKey';
  readonly business: string;
  readonly fits: (assertion: XmlElement) => boolean;
} {
  const which = (['businessKey', 'fromKey', 'toKey'] as const).find(
    (name) => childOf(message, name) !== undefined,
  );
  if (which === undefined) throw refusal('E_fatalError', 'no business is named');
  const wanted = childOf(message, 'keyedReference')?.attributes;
  const fits = (assertion: XmlElement): boolean => {
    const { tModelKey, keyName, keyValue } = assertionIn(assertion);
    if (wanted === undefined) return true;
    return (
      tModelKey === wanted.tModelKey?.trim().toLowerCase() &&
      keyValue === wanted.keyValue?.trim() &&
      (wanted.keyName === undefined || wanted.keyName === '' || keyName === wanted.keyName.trim())
    );
  };
  return { which, business: childText(message, which)?.toLowerCase() ?? '', fits };
}

function* relatedBusinesses(message: XmlElement): Step<XmlElement> {
  const { which, business, fits } = relatedQuestion(message);
  const holder = yield* holderOf(business);
  if (holder?.entity.key !== business || holder.entity.kind !== 'business') {
    throw refusal('E_invalidKeyPassed', `${business} is no businessEntity`, { key: business });
  }
  const byOther = new Map<string, Relation[]>();
  for (const relation of yield* relationsOf(business, which)) {
    if (!fits(relation.assertion)) continue;
    byOther.set(relation.other, [...(byOther.get(relation.other) ?? []), relation]);
  }
  const infos: XmlElement[] = [];
  for (const [other, relations] of byOther) {
    const stored = yield* get<StoredEntity>(rows.entity(other));
    if (stored === undefined || stored.deletedMs !== undefined) continue;
    const content = stored.entity.content as XmlElement;
    const shared = (['fromKey', 'toKey'] as const).flatMap((direction) => {
      const same = relations.filter((one) => one.direction === direction);
      if (same.length === 0) return [];
      const references = same.flatMap(({ assertion }) =>
        assertion.children.filter(({ name }) => name === 'keyedReference'),
      );
      const children = [...references, ...same.map(({ assertion }) => assertion)];
      return [element('sharedRelationships', { attributes: { direction }, children })];
    });
    infos.push(
      element('relatedBusinessInfo', {
        children: [
          element('businessKey', { text: other }),
          ...content.children.filter(({ name }) => name === 'name' || name === 'description'),
          ...shared,
        ],
      }),
    );
  }
  const listHead = Number(message.attributes.listHead ?? 1);
  const maxRows = Number(message.attributes.maxRows ?? relationsMax);
  const page = infos.slice(listHead - 1, listHead - 1 + maxRows);
  const truncated = listHead - 1 + page.length < infos.length;
  return element('relatedBusinessesList', {
    ...(truncated ? { attributes: { truncated: 'true' } } : {}),
    children: [
      listDescription(page.length, infos.length, listHead),
      element('businessKey', { text: business }),
      ...(page.length === 0 ? [] : [element('relatedBusinessInfos', { children: page })]),
    ],
  });
}

/** How much of a list is in the answer. */
export function listDescription(
  includeCount: number,
  actualCount: number,
  listHead: number,
): XmlElement {
  return element('listDescription', {
    children: Object.entries({ includeCount, actualCount, listHead }).map(([name, value]) =>
      element(name, { text: String(value) }),
    ),
  });
}
