import { type Bytestring, bytestringOfText, checkLimit, DaybookError } from '../base/index.ts';
import { sha256Hex } from '../model/index.ts';
import { documentOf, isReservedKey, parseQuery, projected, selectorTest } from '../state/index.ts';

/** What a follower wants to hear of: entities that at least one selection selects. */
export type Subscription = readonly Selection[];

/** Entities of one contract. */
export interface Selection {
  readonly contract: string;
  /** First key. Default: the first of the contract. */
  readonly start?: string;
  /** First key that is not selected any more. Default: none. */
  readonly end?: string;
  /** Keys that begin with this; instead of `start` and `end`. */
  readonly prefix?: string;
  /**
   * Conditions on JSON contents, the `selector` of a JSON query. An entity that ceases to match is
   * delivered as deleted. Without `$regex`: it is evaluated by nodes, which a pattern could hold up.
   */
  readonly selector?: Readonly<Record<string, unknown>>;
  /** Deliver these fields of JSON contents only. */
  readonly fields?: readonly string[];
}

/** What a subscription says about one write. */
export type Selected =
  /** None of its business. */
  | undefined
  /** The new content; `undefined`: gone, or no longer selected. */
  | { readonly value: Bytestring | undefined };

/** A subscription that is ready for use. */
export interface CompiledSubscription {
  /** Equal for equal subscriptions. */
  readonly digest: string;
  /** Key ranges to scan, in order, without overlap. */
  readonly ranges: readonly KeyRange[];
  select(contract: string, key: Bytestring, value: Bytestring | undefined): Selected;
}

/** Keys of one contract, `start <= key < end`; `end` empty: no bound. */
export interface KeyRange {
  readonly contract: string;
  readonly start: Bytestring;
  readonly end: Bytestring;
}

interface CompiledSelection extends KeyRange {
  readonly value: (value: Bytestring) => Bytestring | undefined;
}

const names = ['contract', 'start', 'end', 'prefix', 'selector', 'fields'];

/**
 * Checks a subscription, which may come from anybody.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`, `QUERY_INVALID`
 */
export function compileSubscription(subscription: unknown): CompiledSubscription {
  if (!Array.isArray(subscription) || subscription.length === 0) {
    throw malformed('a subscription is a list of selections');
  }
  checkLimit('subscriptionSelectionsMax', subscription.length);
  const text = JSON.stringify(subscription);
  checkLimit('subscriptionBytesMax', text.length);
  const byContract = new Map<string, CompiledSelection[]>();
  for (const selection of subscription as unknown[]) {
    const compiled = compileSelection(selection);
    const others = byContract.get(compiled.contract);
    if (others === undefined) byContract.set(compiled.contract, [compiled]);
    else others.push(compiled);
  }
  return {
    digest: sha256Hex(Buffer.from(text)).slice(0, 16),
    ranges: [...byContract.values()].flatMap(disjoint),
    select: (contract, key, value) => {
      const selections = byContract.get(contract);
      if (selections === undefined || isReservedKey(key)) return undefined;
      let inRange = false;
      for (const selection of selections) {
        if (key < selection.start || (selection.end !== '' && key >= selection.end)) continue;
        inRange = true;
        if (value === undefined) break;
        const selected = selection.value(value);
        if (selected !== undefined) return { value: selected };
      }
      return inRange ? { value: undefined } : undefined;
    },
  };
}

function compileSelection(selection: unknown): CompiledSelection {
  if (typeof selection !== 'object' || selection === null)
    throw malformed('a selection is an object');
  const unknown = Object.keys(selection).find((name) => !names.includes(name));
  if (unknown !== undefined) throw malformed(`unknown part of a selection: ${unknown}`);
  const { contract, start, end, prefix, selector, fields } = selection as Record<string, unknown>;
  if (typeof contract !== 'string' || contract === '')
    throw malformed('a selection has a contract');
  for (const text of [start, end, prefix]) {
    if (text !== undefined && typeof text !== 'string') throw malformed('keys are texts');
  }
  if (prefix !== undefined && (start !== undefined || end !== undefined)) {
    throw malformed('a selection has a prefix, or start and end');
  }
  const first = bytestringOfText(((prefix ?? start) as string | undefined) ?? '');
  const bound =
    prefix === undefined ? bytestringOfText((end as string | undefined) ?? '') : after(first);
  if (hasPattern(selector)) throw malformed('a selector of a subscription has no $regex');
  // The query's own rules check both parts.
  const query = parseQuery(JSON.stringify({ selector: selector ?? {}, fields: fields ?? [] }));
  const test = selector === undefined ? undefined : selectorTest(query);
  return {
    contract,
    start: first,
    end: bound,
    value: (value) => {
      if (test === undefined && query.fields === undefined) return value;
      const document = documentOf(value);
      if (document === undefined) return test === undefined ? value : undefined;
      if (test !== undefined && !test(document)) return undefined;
      return projected(value, document, query.fields);
    },
  };
}

/** A pattern of an outsider could keep the node busy for ever with one content. */
function hasPattern(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, part]) => name === '$regex' || hasPattern(part));
}

/** The first key behind all keys that begin with `prefix`. */
function after(prefix: Bytestring): Bytestring {
  let length = prefix.length;
  while (length > 0 && prefix.charCodeAt(length - 1) === 0xff) length--;
  if (length === 0) return '';
  return prefix.slice(0, length - 1) + String.fromCharCode(prefix.charCodeAt(length - 1) + 1);
}

function disjoint(selections: readonly KeyRange[]): KeyRange[] {
  const ranges: { contract: string; start: Bytestring; end: Bytestring }[] = [];
  const sorted = [...selections].sort((a, b) => (a.start < b.start ? -1 : 1));
  for (const { contract, start, end } of sorted) {
    const last = ranges.at(-1);
    if (last !== undefined && (last.end === '' || start <= last.end)) {
      if (last.end !== '' && (end === '' || end > last.end)) last.end = end;
    } else if (end === '' || start < end) ranges.push({ contract, start, end });
  }
  return ranges;
}

function malformed(what: string): DaybookError {
  return new DaybookError('MALFORMED', what, { details: { what: 'subscription' } });
}
