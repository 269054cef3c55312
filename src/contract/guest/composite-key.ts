/* Fabric's composite keys: U+0000 type U+0000 attribute U+0000 … */

const separator = '\u0000';
/** The last code point: ends the range of all keys with a prefix. */
export const lastCodePoint = '\u{10ffff}';

/** @throws Error in the contract's realm when a part is empty or no string. */
export function createCompositeKey(objectType: unknown, attributes: unknown): string {
  const type = part(objectType, 'the object type');
  if (!Array.isArray(attributes)) throw new Error('attributes must be an array of strings');
  let key = separator + type + separator;
  for (let index = 0; index < attributes.length; index++) {
    key += part(attributes[index], 'an attribute') + separator;
  }
  return key;
}

/** Takes a composite key apart; of anything else both parts are empty. */
export function splitCompositeKey(key: unknown): { objectType: string; attributes: string[] } {
  const split = { objectType: '', attributes: [] as string[] };
  if (typeof key !== 'string' || key[0] !== separator) return split;
  let start = 1;
  let count = -1;
  for (let at = 1; at < key.length; at++) {
    if (key[at] !== separator) continue;
    let text = '';
    for (let from = start; from < at; from++) text += key[from];
    if (count < 0) split.objectType = text;
    else split.attributes[count] = text;
    count++;
    start = at + 1;
  }
  return split;
}

/** Keys of contracts must not reach into the composite keys by accident. */
export function checkSimpleKey(key: string): void {
  if (key[0] === separator) {
    throw new Error('a range cannot start or end at a key whose first character is U+0000');
  }
}

function part(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '') {
    throw new Error(`${what} of a composite key must be a non-empty string`);
  }
  return value;
}
