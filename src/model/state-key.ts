import { type Bytestring, bytestringOfText, readKey, textOf } from '../base/index.ts';

const scratch = Buffer.allocUnsafeSlow(64);

/**
 * The key of a row in the whole state: `namespace ‖ 0x00 ‖ key`. Namespaces contain no 0x00, so
 * rows of one namespace stand together, in byte order of their keys.
 *
 * A key that was asked for lately is the same string as then: maps find it by its address and the
 * hash it has already. For strings just put together they make a hash, and compare characters.
 */
export function stateKey(namespace: string, keyInNamespace: Bytestring): Bytestring {
  const prefix = bytestringOfText(namespace);
  const start = prefix.length + 1;
  const end = start + keyInNamespace.length;
  if (end > scratch.length) return `${prefix}\0${keyInNamespace}`;
  for (let at = 0; at < prefix.length; at++) scratch[at] = prefix.charCodeAt(at);
  scratch[start - 1] = 0;
  for (let at = start; at < end; at++) scratch[at] = keyInNamespace.charCodeAt(at - start);
  return readKey(scratch, 0, end);
}

/** Splits {@link stateKey}. */
export function splitStateKey(whole: Bytestring): { namespace: string; key: Bytestring } {
  const at = whole.indexOf('\0');
  return { namespace: textOf(whole.slice(0, at)), key: whole.slice(at + 1) };
}

/** The state key that a range of keys in a namespace ends before; `end` empty: with the namespace. */
export function rangeEndKey(namespace: string, end: Bytestring): Bytestring {
  return end === '' ? namespaceEnd(namespace) : stateKey(namespace, end);
}

/** The first state key after all rows of a namespace. */
export function namespaceEnd(namespace: string): Bytestring {
  return `${bytestringOfText(namespace)}\u0001`;
}
