import { refusal } from '../core/contract-core.ts';
import { childOf, type XmlElement } from './xml-element.ts';

/** UDDI's find qualifiers that are understood; `UTS-10` is not. */
const qualifierNames = [
  'andAllKeys',
  'approximateMatch',
  'binarySort',
  'bindingSubset',
  'caseInsensitiveMatch',
  'caseInsensitiveSort',
  'caseSensitiveMatch',
  'caseSensitiveSort',
  'combineCategoryBags',
  'diacriticInsensitiveMatch',
  'diacriticSensitiveMatch',
  'exactMatch',
  'orAllKeys',
  'orLikeKeys',
  'serviceSubset',
  'signaturePresent',
  'sortByDateAsc',
  'sortByDateDesc',
  'sortByNameAsc',
  'sortByNameDesc',
  'suppressProjectedServices',
] as const;

/** One of UDDI's find qualifiers. */
export type Qualifier = (typeof qualifierNames)[number];

/** Sets of which one at most may be given. */
const exclusive: readonly (readonly Qualifier[])[] = [
  ['exactMatch', 'approximateMatch'],
  ['caseInsensitiveMatch', 'caseSensitiveMatch', 'exactMatch'],
  ['caseSensitiveMatch', 'caseInsensitiveMatch'],
  ['diacriticInsensitiveMatch', 'diacriticSensitiveMatch'],
  ['exactMatch', 'diacriticInsensitiveMatch'],
  ['andAllKeys', 'orAllKeys', 'orLikeKeys'],
  ['bindingSubset', 'combineCategoryBags', 'serviceSubset'],
  ['sortByNameAsc', 'sortByNameDesc'],
  ['sortByDateAsc', 'sortByDateDesc'],
  ['binarySort', 'caseInsensitiveSort'],
  ['caseSensitiveSort', 'caseInsensitiveSort'],
];

/**
 * The qualifiers of a find, by their short names or as keys under `uddi:uddi.org:findqualifier:`.
 * `exactNameMatch`, the older name of `exactMatch`, is taken, too.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED`: `E_unsupported`, `E_invalidCombination`.
 */
export function qualifiersOf(message: XmlElement): ReadonlySet<Qualifier> {
  const found = new Set<Qualifier>();
  for (const { text } of childOf(message, 'findQualifiers')?.children ?? []) {
    const wanted = text
      .trim()
      .replace(/^uddi:uddi\.org:findqualifier:/i, '')
      .toLowerCase()
      .replace(/^exactnamematch$/, 'exactmatch');
    const name = qualifierNames.find((one) => one.toLowerCase() === wanted);
    if (name === undefined) throw refusal('E_unsupported', `the qualifier ${text.trim()}`);
    found.add(name);
  }
  for (const set of exclusive) {
    const both = set.filter((one) => found.has(one));
    // Exact is case sensitive already: saying so twice is no contradiction.
    const clash = both.filter((one) => !(one === 'caseSensitiveMatch' && found.has('exactMatch')));
    if (clash.length > 1) {
      throw refusal('E_invalidCombination', `${clash.join(' and ')} exclude each other`);
    }
  }
  return found;
}

/** How texts are compared: `%` is any text and `_` any character when approximate. */
export function textTest(
  pattern: string,
  qualifiers: ReadonlySet<Qualifier>,
): (text: string) => boolean {
  const fold = (text: string): string => {
    const plain = qualifiers.has('diacriticInsensitiveMatch')
      ? text.normalize('NFD').replace(/\p{M}/gu, '')
      : text;
    return qualifiers.has('caseInsensitiveMatch') ? plain.toLowerCase() : plain;
  };
  const folded = fold(pattern);
  if (!qualifiers.has('approximateMatch')) return (text) => fold(text) === folded;
  const wanted = [...folded.matchAll(/\\([%_\\])|[\s\S]/gu)].map(
    ([whole, plain]) => plain ?? (whole === '%' ? anyNumber : whole === '_' ? anyOne : whole),
  );
  return (text) => likeness(wanted, Array.from(fold(text)));
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
