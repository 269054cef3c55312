import {
  assertionKeyOf,
  get,
  readAssertionKey,
  refusal,
  rows,
  rowsUnder,
  type Step,
  type StoredEntity,
} from '../core/contract-core.ts';
import { assertionIn } from './assertion-draft.ts';
import {
  bagTest,
  bindingsIn,
  categoryBags,
  discoveryTest,
  fingerprintTest,
  namesTest,
} from './criteria.ts';
import { isProjection, nameOf } from './draft.ts';
import { listDescription, relatedQuestion, relationsOf } from './inquiry.ts';
import { listOf, ownServices } from './parts.ts';
import { type Qualifier, qualifiersOf } from './qualifiers.ts';
import { checkShape } from './shapes.ts';
import { childOf, childText, element, type XmlElement } from './xml-element.ts';

/** Rows in one answer of a find, whatever `maxRows` says. */
export const foundRowsMax = 1_000;
/** Hits of a find in all; more is `E_resultSetTooLarge`. */
export const foundHitsMax = 20_000;

/** One row of a find's answer, with what it is sorted by. */
export interface Hit {
  readonly key: string;
  readonly name: string;
  readonly modifiedMs: number;
  readonly element: XmlElement;
}

/** A part of a scan. */
export interface Scan {
  readonly hits: readonly Hit[];
  /** Where to go on. */
  readonly next?: string;
}

/** What is found elsewhere first: see {@link nestedFind}. */
export interface Nested {
  readonly tModels?: readonly string[];
}

/** True for messages that are answered by a scan over all entities. */
export function isScan(name: string): boolean {
  return /^(find_(business|service|binding|tModel)|get_(registeredInfo|publisherAssertions|assertionStatusReport))$/.test(
    name,
  );
}

/** A find within a find, which must be answered first. */
export function nestedFind(message: XmlElement): XmlElement | undefined {
  return message.name === 'find_tModel' ? undefined : childOf(message, 'find_tModel');
}

/**
 * Looks through at most `limit` entities, from `after` (exclusive) on.
 *
 * @param publisher - who asks; messages about one's own things need it.
 * @throws {DaybookError} `REGISTRY_REFUSED` with UDDI's code.
 */
export function* scan(
  message: XmlElement,
  publisher: string,
  nested: Nested,
  limit: number,
  after?: string,
): Step<Scan> {
  checkShape(message);
  rowNumbers(message);
  const assertions = /ssertion/.test(message.name);
  const prefix = assertions ? 'entity|assertion:' : 'entity|uddi:';
  const page = yield* rowsUnder(prefix, limit, after);
  const last = page.length === limit ? page.at(-1)?.key : undefined;
  const stored = page
    .map(({ value }) => value as StoredEntity)
    .filter(({ deletedMs }) => deletedMs === undefined);
  const hits = assertions
    ? yield* assertionHits(message, publisher, stored)
    : yield* entityHits(message, publisher, nested, stored);
  return { hits, ...(last === undefined ? {} : { next: last }) };
}

function* entityHits(
  message: XmlElement,
  publisher: string,
  nested: Nested,
  found: readonly StoredEntity[],
): Step<readonly Hit[]> {
  if (message.name === 'get_registeredInfo') {
    const selection = message.attributes.infoSelection;
    return found
      .filter(({ entity }) => entity.publisher === publisher)
      .filter(({ entity }) =>
        selection === 'hidden' ? entity.hidden : selection === 'all' || !entity.hidden,
      )
      .map((stored) => hitOf(stored, stored.entity.content as XmlElement, new Set()));
  }
  const qualifiers = qualifiersOf(message);
  const fits = yield* testOf(message, qualifiers, nested);
  const hits: Hit[] = [];
  for (const stored of found) {
    if (stored.entity.hidden) continue;
    const content = stored.entity.content as XmlElement;
    for (const part of candidates(message, content)) {
      if (fits(part)) hits.push(hitOf(stored, part, qualifiers));
    }
  }
  return hits;
}

/** The parts of an entity that a find could find. */
function candidates(message: XmlElement, content: XmlElement): readonly XmlElement[] {
  const within = (name: string): string => message.attributes[name]?.trim().toLowerCase() ?? '';
  switch (message.name) {
    case 'find_business':
      return content.name === 'businessEntity' ? [content] : [];
    case 'find_tModel':
      return content.name === 'tModel' ? [content] : [];
    case 'find_service': {
      const business = within('businessKey');
      if (business !== '' && content.attributes.businessKey !== business) return [];
      return ownServices(content);
    }
    default: {
      const service = within('serviceKey');
      return bindingsIn(content).filter(
        ({ attributes }) => service === '' || attributes.serviceKey === service,
      );
    }
  }
}

function* testOf(
  message: XmlElement,
  qualifiers: ReadonlySet<Qualifier>,
  nested: Nested,
): Step<(one: XmlElement) => boolean> {
  const names = namesTest(
    message.children.filter(({ name }) => name === 'name'),
    qualifiers,
  );
  const categories = bagTest(childOf(message, 'categoryBag'), qualifiers, 'all');
  const identifiers = bagTest(childOf(message, 'identifierBag'), qualifiers, 'any');
  const tModels = nested.tModels === undefined ? undefined : new Set(nested.tModels);
  const fingerprint = fingerprintTest(childOf(message, 'tModelBag'), tModels, qualifiers);
  const discovery = discoveryTest(childOf(message, 'discoveryURLs'));
  const related = childOf(message, 'find_relatedBusinesses');
  let partners: ReadonlySet<string> | undefined;
  if (related !== undefined) {
    const { business, which, fits } = relatedQuestion(related);
    const relations = (yield* relationsOf(business, which)).filter((one) => fits(one.assertion));
    partners = new Set(relations.map(({ other }) => other));
  }
  // Signatures are refused when they come, so nothing has one.
  if (qualifiers.has('signaturePresent')) return () => false;
  return (one) =>
    names(one) &&
    categories(categoryBags(one, qualifiers)) &&
    identifiers([childOf(one, 'identifierBag')].flatMap((bag) => bag ?? [])) &&
    fingerprint(one) &&
    discovery(one) &&
    (partners === undefined || partners.has(one.attributes.businessKey ?? ''));
}

function hitOf(
  { entity }: StoredEntity,
  part: XmlElement,
  qualifiers: ReadonlySet<Qualifier>,
): Hit {
  const { businessKey = '', serviceKey = '', bindingKey = '', tModelKey = '' } = part.attributes;
  const named = part.children.filter(({ name }) => name === 'name' || name === 'description');
  const about = { name: nameOf(part), modifiedMs: entity.modifiedMs };
  switch (part.name) {
    case 'businessEntity': {
      const services = listOf(part, 'businessServices').filter(
        (one) => !qualifiers.has('suppressProjectedServices') || !isProjection(one, businessKey),
      );
      const infos = services.map(serviceInfo);
      const list = infos.length === 0 ? [] : [element('serviceInfos', { children: infos })];
      const info = element('businessInfo', {
        attributes: { businessKey },
        children: [...named, ...list],
      });
      return { ...about, key: businessKey, element: info };
    }
    case 'businessService':
      return { ...about, key: serviceKey, element: serviceInfo(part) };
    case 'bindingTemplate':
      return { ...about, key: bindingKey, element: part };
    default: {
      const info = element('tModelInfo', { attributes: { tModelKey }, children: named });
      return { ...about, key: tModelKey, element: info };
    }
  }
}

function serviceInfo({ attributes, children }: XmlElement): XmlElement {
  const { serviceKey = '', businessKey = '' } = attributes;
  return element('serviceInfo', {
    attributes: { serviceKey, businessKey },
    children: children.filter(({ name }) => name === 'name'),
  });
}

function* assertionHits(
  message: XmlElement,
  publisher: string,
  found: readonly StoredEntity[],
): Step<readonly Hit[]> {
  const report = message.name === 'get_assertionStatusReport';
  const wanted = childText(message, 'completionStatus');
  const hits: Hit[] = [];
  for (const { entity } of found) {
    const own = readAssertionKey(entity.key);
    if (own === undefined) continue;
    const content = entity.content as XmlElement;
    const { fromKey, toKey } = assertionIn(content);
    const opposite = own.side === 'from' ? 'to' : 'from';
    const other = assertionKeyOf({
      side: opposite,
      business: own.side === 'from' ? toKey : fromKey,
      digest: own.digest,
    });
    const agreed = yield* get<StoredEntity>(rows.entity(other));
    const both = agreed !== undefined && agreed.deletedMs === undefined;
    const fromOwn = (yield* publisherOfBusiness(fromKey)) === publisher;
    const toOwn = (yield* publisherOfBusiness(toKey)) === publisher;
    const asserted = own.side === 'from' ? fromOwn : toOwn;
    const otherOwn = own.side === 'from' ? toOwn : fromOwn;
    const about = { key: entity.key, name: '', modifiedMs: entity.modifiedMs };
    if (!report) {
      // Where both sides are one's own, one of them stands for both.
      if (asserted && !(both && otherOwn && own.side === 'to')) {
        hits.push({ ...about, element: content });
      }
      continue;
    }
    if (!(fromOwn || toOwn) || (both && own.side === 'to')) continue;
    const completionStatus = both
      ? 'status:complete'
      : own.side === 'from'
        ? 'status:toKey_incomplete'
        : 'status:fromKey_incomplete';
    if (wanted !== undefined && wanted !== completionStatus) continue;
    const keysOwned = element('keysOwned', {
      children: [
        ...(fromOwn ? [element('fromKey', { text: fromKey })] : []),
        ...(toOwn ? [element('toKey', { text: toKey })] : []),
      ],
    });
    const item = element('assertionStatusItem', {
      attributes: { completionStatus },
      children: [...content.children, keysOwned],
    });
    hits.push({ ...about, element: item });
  }
  return hits;
}

function* publisherOfBusiness(key: string): Step<string | undefined> {
  return (yield* get<StoredEntity>(rows.entity(key)))?.entity.publisher;
}

function rowNumbers(message: XmlElement): { readonly maxRows: number; readonly listHead: number } {
  const read = (name: string, otherwise: number): number => {
    const value = Number(message.attributes[name] ?? otherwise);
    if (!Number.isSafeInteger(value) || value < 1 || value > 2 ** 31 - 1) {
      throw refusal('E_invalidValue', `${name} is a number from 1 on`);
    }
    return value;
  };
  return { maxRows: read('maxRows', foundRowsMax), listHead: read('listHead', 1) };
}

/** The answer made of all hits: sorted, cut to `listHead` and `maxRows`. */
export function foundAnswer(message: XmlElement, hits: readonly Hit[]): XmlElement {
  switch (message.name) {
    case 'get_publisherAssertions':
      return element('publisherAssertions', { children: hits.map((hit) => hit.element) });
    case 'get_assertionStatusReport':
      return element('assertionStatusReport', { children: hits.map((hit) => hit.element) });
    case 'get_registeredInfo':
      return element('registeredInfo', {
        children: [
          ...list('businessInfos', ofName(hits, 'businessInfo')),
          ...list('tModelInfos', ofName(hits, 'tModelInfo')),
        ],
      });
  }
  const { maxRows, listHead } = rowNumbers(message);
  const sorted = sortedHits(hits, qualifiersOf(message));
  const page = sorted
    .slice(listHead - 1, listHead - 1 + Math.min(maxRows, foundRowsMax))
    .map((hit) => hit.element);
  const truncated = listHead - 1 + page.length < sorted.length;
  const description = listDescription(page.length, sorted.length, listHead);
  const attributes = truncated ? { attributes: { truncated: 'true' } } : {};
  const [name, infos] = lists[message.name] ?? ['bindingDetail', undefined];
  const children = infos === undefined ? page : list(infos, page);
  return element(name, { ...attributes, children: [description, ...children] });
}

const lists: Readonly<Record<string, readonly [string, string]>> = {
  find_business: ['businessList', 'businessInfos'],
  find_service: ['serviceList', 'serviceInfos'],
  find_tModel: ['tModelList', 'tModelInfos'],
};

function list(name: string, children: readonly XmlElement[]): XmlElement[] {
  return children.length === 0 ? [] : [element(name, { children })];
}

function ofName(hits: readonly Hit[], name: string): readonly XmlElement[] {
  return hits.map((hit) => hit.element).filter((one) => one.name === name);
}

/** By name unless by date; a date given with a name sorts among equal names. */
function sortedHits(hits: readonly Hit[], qualifiers: ReadonlySet<Qualifier>): readonly Hit[] {
  const folded = qualifiers.has('caseInsensitiveSort');
  const byDate = qualifiers.has('sortByDateDesc') ? -1 : qualifiers.has('sortByDateAsc') ? 1 : 0;
  const byName = qualifiers.has('sortByNameDesc')
    ? -1
    : qualifiers.has('sortByNameAsc') || byDate === 0
      ? 1
      : 0;
  const order = (left: string | number, right: string | number): number =>
    left < right ? -1 : left > right ? 1 : 0;
  const text = (name: string): string => (folded ? name.toLowerCase() : name);
  return [...hits].sort(
    (left, right) =>
      byName * order(text(left.name), text(right.name)) ||
      byDate * order(left.modifiedMs, right.modifiedMs) ||
      order(left.key, right.key),
  );
}
