/*
 * A publisher assertion says that two businesses are related; each side that agrees is an entity of
 * its own, in custody of the node of its business. The key is made of what it says, so that both
 * sides, and the same assertion made twice, are found.
 */

const assertionKey = /^assertion:(from|to):(uddi:[^|~]+):([0-9a-f]{32})$/;

/** Which side of an assertion an entity is. */
export type AssertionSide = 'from' | 'to';

/** What an assertion's key tells. */
export interface AssertionKey {
  readonly side: AssertionSide;
  /** The business at whose side it stands. */
  readonly business: string;
  /** The same for both sides: a hash of what is asserted. */
  readonly digest: string;
}

/** Reads an assertion's key. */
export function readAssertionKey(key: string): AssertionKey | undefined {
  const found = assertionKey.exec(key);
  if (found === null) return undefined;
  const [, side, business, digest] = found;
  return { side: side as AssertionSide, business: business ?? '', digest: digest ?? '' };
}

/** The key of one side of an assertion. */
export function assertionKeyOf({ side, business, digest }: AssertionKey): string {
  return `assertion:${side}:${business}:${digest}`;
}

/** The business at whose side an assertion stands, by the assertion's key. */
export function assertingBusiness(key: string): string | undefined {
  return readAssertionKey(key)?.business;
}
