import { bindingsOf, listOf, ownServices } from './parts.ts';
import { type Qualifier, textTest } from './qualifiers.ts';
import { childOf, type XmlElement } from './xml-element.ts';

/** Of these references alone the name of the key counts, too. */
const generalKeywords = 'uddi:uddi.org:categorization:general_keywords';

type Test = (one: XmlElement) => boolean;

/** Any of the names asked for; a language asked for must be the name's, or begin it. */
export function namesTest(wanted: readonly XmlElement[], qualifiers: ReadonlySet<Qualifier>): Test {
  const tests = wanted.map(({ text, attributes }) => {
    const matches = textTest(text.trim(), qualifiers);
    const lang = attributes.lang?.toLowerCase();
    return (name: XmlElement): boolean => {
      if (lang !== undefined && lang !== '') {
        const own = name.attributes.lang?.toLowerCase() ?? '';
        if (own !== lang && !own.startsWith(`${lang}-`)) return false;
      }
      return matches(name.text);
    };
  });
  return ({ children }) =>
    tests.length === 0 ||
    children.some((child) => child.name === 'name' && tests.some((test) => test(child)));
}

/** A bag of keyed references against the bags that an entity has. */
export function bagTest(
  wanted: XmlElement | undefined,
  qualifiers: ReadonlySet<Qualifier>,
  otherwise: 'all' | 'any',
): (bags: readonly XmlElement[]) => boolean {
  if (wanted === undefined) return () => true;
  const groups = wanted.children.filter(({ name }) => name === 'keyedReferenceGroup');
  const references = wanted.children.filter(({ name }) => name === 'keyedReference');
  const referenceTests = references.map((one) => ({
    key: one.attributes.tModelKey?.trim().toLowerCase() ?? '',
    test: referenceTest(one, qualifiers),
  }));
  const groupTests = groups.map((group) => {
    const inner = group.children.map((one) => referenceTest(one, qualifiers));
    const key = group.attributes.tModelKey?.trim().toLowerCase();
    return (one: XmlElement): boolean =>
      one.name === 'keyedReferenceGroup' &&
      one.attributes.tModelKey === key &&
      inner.every((test) => one.children.some(test));
  });
  const any =
    has(qualifiers, 'orAllKeys') || (otherwise === 'any' && !has(qualifiers, 'andAllKeys'));
  return (bags) => {
    const have = bags.flatMap(({ children }) => children);
    const inGroups = groupTests.map((test) => have.some(test));
    if (has(qualifiers, 'orLikeKeys')) {
      const byKey = new Map<string, boolean>();
      for (const { key, test } of referenceTests) {
        byKey.set(key, byKey.get(key) === true || have.some(test));
      }
      return [...byKey.values(), ...inGroups].every(Boolean);
    }
    const results = [...referenceTests.map(({ test }) => have.some(test)), ...inGroups];
    return any ? results.some(Boolean) : results.every(Boolean);
  };
}

function has(qualifiers: ReadonlySet<Qualifier>, name: Qualifier): boolean {
  return qualifiers.has(name);
}

function referenceTest(wanted: XmlElement, qualifiers: ReadonlySet<Qualifier>): Test {
  const key = wanted.attributes.tModelKey?.trim().toLowerCase() ?? '';
  const value = textTest(wanted.attributes.keyValue?.trim() ?? '', qualifiers);
  const name = textTest(wanted.attributes.keyName?.trim() ?? '', qualifiers);
  return ({ name: element, attributes }) =>
    element === 'keyedReference' &&
    attributes.tModelKey === key &&
    value(attributes.keyValue?.trim() ?? '') &&
    (key !== generalKeywords || name(attributes.keyName?.trim() ?? ''));
}

/** The category bags that count for an entity, by the qualifiers for subsets. */
export function categoryBags(
  one: XmlElement,
  qualifiers: ReadonlySet<Qualifier>,
): readonly XmlElement[] {
  const own = bagsOf([one]);
  const services = one.name === 'businessEntity' ? ownServices(one) : [];
  const holders = one.name === 'businessService' ? [one] : services;
  const bindings = holders.flatMap(bindingsOf);
  if (has(qualifiers, 'bindingSubset')) return bagsOf(bindings);
  if (has(qualifiers, 'serviceSubset')) {
    return one.name === 'businessEntity' ? bagsOf(services) : own;
  }
  if (has(qualifiers, 'combineCategoryBags')) {
    return [...own, ...bagsOf(services), ...bagsOf(bindings)];
  }
  return own;
}

function bagsOf(elements: readonly XmlElement[]): readonly XmlElement[] {
  return elements.flatMap((one) => childOf(one, 'categoryBag') ?? []);
}

/** The bindings that an element has or is. */
export function bindingsIn(one: XmlElement): readonly XmlElement[] {
  if (one.name === 'bindingTemplate') return [one];
  if (one.name === 'businessService') return bindingsOf(one);
  return one.name === 'businessEntity' ? ownServices(one).flatMap(bindingsOf) : [];
}

/**
 * A binding with all the tModels asked for (any, with `orAllKeys`), and with one of those that a
 * nested `find_tModel` found.
 */
export function fingerprintTest(
  bag: XmlElement | undefined,
  found: ReadonlySet<string> | undefined,
  qualifiers: ReadonlySet<Qualifier>,
): Test {
  const wanted = (bag?.children ?? []).map(({ text }) => text.trim().toLowerCase());
  if (wanted.length === 0 && found === undefined) return () => true;
  return (one) =>
    bindingsIn(one).some((binding) => {
      const keys = listOf(binding, 'tModelInstanceDetails').map(
        ({ attributes }) => attributes.tModelKey ?? '',
      );
      const fits = has(qualifiers, 'orAllKeys')
        ? wanted.length === 0 || wanted.some((key) => keys.includes(key))
        : wanted.every((key) => keys.includes(key));
      return fits && (found === undefined || keys.some((key) => found.has(key)));
    });
}

/** Any of the discovery URLs asked for, of the use asked for if one is. */
export function discoveryTest(wanted: XmlElement | undefined): Test {
  if (wanted === undefined) return () => true;
  return (business) =>
    listOf(business, 'discoveryURLs').some((own) =>
      wanted.children.some(
        (one) =>
          one.text.trim() === own.text.trim() &&
          (!one.attributes.useType || one.attributes.useType === own.attributes.useType),
      ),
    );
}
