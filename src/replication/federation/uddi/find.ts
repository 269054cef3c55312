import { refusal, type StoredEntity } from '../core/index.ts';
import { nameOf } from './draft.ts';
import { childOf, type XmlElement } from './xml.ts';

/** Rows in one answer of a find, whatever `maxRows` says. */
export const foundRowsMax = 1_000;

const qualifierNames = [
  'exactMatch',
  'approximateMatch',
  'caseInsensitiveMatch',
  'caseSensitiveMatch',
  'andAllKeys',
  'orAllKeys',
  'sortByNameAsc',
  'sortByNameDesc',
] as const;

type Qualifier = (typeof qualifierNames)[number];

const excluding: readonly (readonly [Qualifier, Qualifier])[] = [
  ['exactMatch', 'approximateMatch'],
  ['caseInsensitiveMatch', 'caseSensitiveMatch'],
  ['andAllKeys', 'orAllKeys'],
  ['sortByNameAsc', 'sortByNameDesc'],
];

/**
 * Tests entities against a `find_business` or `find_tModel`: names (any of them), `categoryBag`
 * (all keyed references unless `orAllKeys`), `identifierBag` (any unless `andAllKeys`).
 *
 * @throws {DaybookError} `REGISTRY_REFUSED`: `E_unsupported` for other criteria and qualifiers,
 *   `E_invalidCombination` for qualifiers that exclude each other.
 */
export function finderOf(message: XmlElement): {
  matches(stored: StoredEntity): boolean;
  sorted(found: readonly StoredEntity[]): readonly StoredEntity[];
} {
  const known = ['authInfo', 'findQualifiers', 'name', 'identifierBag', 'categoryBag'];
  const strange = message.children.find(({ name }) => !known.includes(name));
  if (strange !== undefined) throw refusal('E_unsupported', `${strange.name} is no criterion here`);
  const qualifiers = qualifiersOf(message);
  const names = message.children
    .filter(({ name }) => name === 'name')
    .map(({ text }) => nameTest(text.trim(), qualifiers));
  const categories = references(message, 'categoryBag');
  const identifiers = references(message, 'identifierBag');
  const allCategories = !qualifiers.has('orAllKeys');
  const allIdentifiers = qualifiers.has('andAllKeys');
  const fits = (
    content: XmlElement,
    bag: string,
    wanted: readonly string[],
    all: boolean,
  ): boolean => {
    if (wanted.length === 0) return true;
    const have = references(content, bag);
    return all
      ? wanted.every((one) => have.includes(one))
      : wanted.some((one) => have.includes(one));
  };
  return {
    matches: ({ entity }) => {
      const content = entity.content as XmlElement;
      const own = content.children.filter(({ name }) => name === 'name');
      return (
        (names.length === 0 || own.some(({ text }) => names.some((test) => test(text)))) &&
        fits(content, 'categoryBag', categories, allCategories) &&
        fits(content, 'identifierBag', identifiers, allIdentifiers)
      );
    },
    sorted: (found) => {
      const sign = qualifiers.has('sortByNameDesc') ? -1 : 1;
      const name = ({ entity }: StoredEntity): string => nameOf(entity.content as XmlElement);
      return [...found].sort((left, right) =>
        name(left) === name(right) ? 0 : name(left) < name(right) ? -sign : sign,
      );
    },
  };
}

function qualifiersOf(message: XmlElement): ReadonlySet<Qualifier> {
  const found = new Set<Qualifier>();
  for (const { text } of childOf(message, 'findQualifiers')?.children ?? []) {
    const wanted = text
      .trim()
      .replace(/^uddi:uddi\.org:findqualifier:/i, '')
      .toLowerCase();
    const name = qualifierNames.find((one) => one.toLowerCase() === wanted);
    if (name === undefined) throw refusal('E_unsupported', `the qualifier ${wanted} is not known`);
    found.add(name);
  }
  for (const [one, other] of excluding) {
    if (found.has(one) && found.has(other)) {
      throw refusal('E_invalidCombination', `${one} and ${other} exclude each other`);
    }
  }
  return found;
}

/** `%` stands for any characters and `_` for one, when approximate; a backslash takes them as such. */
function nameTest(pattern: string, qualifiers: ReadonlySet<Qualifier>): (name: string) => boolean {
  const fold = qualifiers.has('caseInsensitiveMatch');
  if (!qualifiers.has('approximateMatch')) {
    const wanted = fold ? pattern.toLowerCase() : pattern;
    return (name) => (fold ? name.toLowerCase() : name) === wanted;
  }
  const wanted = [...(fold ? pattern.toLowerCase() : pattern).matchAll(/\\([%_\\])|[\s\S]/gu)].map(
    ([whole, plain]) => plain ?? (whole === '%' ? anyNumber : whole === '_' ? anyOne : whole),
  );
  return (name) => likeness(wanted, Array.from(fold ? name.toLowerCase() : name));
}

const anyNumber = Symbol('%');
const anyOne = Symbol('_');

/** Goes back to the last `%` only, so the time is bounded by the product of both lengths. */
function likeness(pattern: readonly (string | symbol)[], name: readonly string[]): boolean {
  let at = 0;
  let inName = 0;
  let retry: { readonly at: number; inName: number } | undefined;
  while (inName < name.length) {
    const wanted = pattern[at];
    if (wanted === anyNumber) {
      retry = { at: ++at, inName };
    } else if (wanted === anyOne || wanted === name[inName]) {
      at++;
      inName++;
    } else if (retry !== undefined) {
      at = retry.at;
      inName = ++retry.inName;
    } else return false;
  }
  return pattern.slice(at).every((rest) => rest === anyNumber);
}

function references(parent: XmlElement, bag: string): readonly string[] {
  return (childOf(parent, bag)?.children ?? []).map(({ attributes }) =>
    JSON.stringify([(attributes.tModelKey ?? '').toLowerCase(), attributes.keyValue ?? '']),
  );
}
