import { isUtf8 } from 'node:buffer';
import { asBuffer } from '../base/index.ts';

/** A contract's answer for people and for programs. */
export interface Printable {
  readonly text: string;
  /** The text, or `{ base64 }` when the bytes are not UTF-8. */
  readonly json: string | { readonly base64: string };
}

/** Text stays text; other bytes become base64. */
export function printable(bytes: Uint8Array): Printable {
  const buffer = asBuffer(bytes);
  if (isUtf8(buffer)) {
    const text = buffer.toString('utf8');
    return { text, json: text };
  }
  const base64 = buffer.toString('base64');
  return { text: `base64:${base64}`, json: { base64 } };
}
