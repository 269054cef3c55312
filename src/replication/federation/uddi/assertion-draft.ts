import { createHash } from 'node:crypto';
import {
  type AssertionSide,
  assertionKeyOf,
  type EntityKind,
  refusal,
} from '../core/contract-core.ts';
import { canonicalPrefix } from './draft.ts';
import { childOf, childText, element, type XmlElement } from './xml-element.ts';

/** What an assertion says, in one form: keys in lower case, no name of a key left out. */
export interface Assertion {
  readonly fromKey: string;
  readonly toKey: string;
  readonly tModelKey: string;
  readonly keyName: string;
  readonly keyValue: string;
}

/**
 * Reads a `publisherAssertion`.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_fatalError`, `E_invalidKeyPassed`)
 */
export function assertionIn(sent: XmlElement): Assertion {
  const reference = childOf(sent, 'keyedReference');
  const fromKey = childText(sent, 'fromKey')?.toLowerCase() ?? '';
  const toKey = childText(sent, 'toKey')?.toLowerCase() ?? '';
  if (sent.name !== 'publisherAssertion' || reference === undefined) {
    throw refusal('E_fatalError', 'not a publisherAssertion');
  }
  if (fromKey === toKey) throw refusal('E_invalidKeyPassed', 'fromKey and toKey are the same');
  const { tModelKey = '', keyName = '', keyValue = '' } = reference.attributes;
  return {
    fromKey,
    toKey,
    tModelKey: tModelKey.trim().toLowerCase(),
    keyName: keyName.trim(),
    keyValue: keyValue.trim(),
  };
}

/** An assertion as `publisherAssertion`. */
export function publisherAssertion(one: Assertion): XmlElement {
  const { fromKey, toKey, tModelKey, keyName, keyValue } = one;
  return element('publisherAssertion', {
    children: [
      element('fromKey', { text: fromKey }),
      element('toKey', { text: toKey }),
      element('keyedReference', { attributes: { tModelKey, keyName, keyValue } }),
    ],
  });
}

/** One side of an assertion, in the form of the protocol. */
export function assertionDraft(
  sent: XmlElement,
  side: AssertionSide,
): {
  readonly key: string;
  readonly kind: EntityKind;
  readonly innerKeys: readonly string[];
  readonly references: readonly string[];
  readonly content: XmlElement;
} {
  const said = assertionIn(sent);
  const { fromKey, toKey, tModelKey, keyName, keyValue } = said;
  const text = JSON.stringify([fromKey, toKey, tModelKey, keyName, keyValue]);
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 32);
  const business = side === 'from' ? fromKey : toKey;
  const targets = [fromKey, toKey, tModelKey].filter((key) => !key.startsWith(canonicalPrefix));
  return {
    key: assertionKeyOf({ side, business, digest }),
    kind: 'assertion',
    innerKeys: [],
    references: [...new Set(targets)].sort(),
    content: publisherAssertion(said),
  };
}
