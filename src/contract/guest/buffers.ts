/* oxlint-disable typescript/unbound-method -- built-ins are taken before contracts can replace them */
import { Buffer as PortableBuffer } from 'buffer/index.js';
import { countBufferBytes } from './current-call.ts';
import type { HostFunctions } from './host-functions.ts';

/*
 * `Buffer` of the realm: npm `buffer` (plain JavaScript), with the conversions of text that every
 * contract call needs done natively by the host. The host gets nothing but an in-realm typed array
 * and a primitive.
 */

const defineProperty = Object.defineProperty;
const isView = ArrayBuffer.isView;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the range is exactly 7-bit ASCII
const ascii = /^[\x00-\x7f]*$/;
const matches = RegExp.prototype.exec;
const apply = Reflect.apply;
/** The constructor as it is before metering replaces it. */
const PlainUint8Array = Uint8Array;

class FastBuffer extends PlainUint8Array {}

/** Up to here a loop is quicker than a call into native code. */
const shortLength = 96;

let host: HostFunctions;

/** Installs `Buffer`, and gives the prototype instances that are cheap to make. */
export function installBuffers(functions: HostFunctions): void {
  host = functions;
  const prototype = FastBuffer.prototype as unknown as Record<string, unknown>;
  const portable = PortableBuffer.prototype as unknown as Record<string, unknown>;
  for (const name of Object.getOwnPropertyNames(portable)) {
    const descriptor = Object.getOwnPropertyDescriptor(portable, name);
    if (descriptor !== undefined) defineProperty(prototype, name, descriptor);
  }
  Object.setPrototypeOf(prototype, PlainUint8Array.prototype);
  defineProperty(prototype, 'constructor', { value: PortableBuffer, writable: true });
  defineProperty(PortableBuffer, 'prototype', { value: prototype });

  const portableFrom = PortableBuffer.from as unknown as (...args: unknown[]) => unknown;
  defineProperty(PortableBuffer, 'from', {
    value: (...args: unknown[]): unknown => {
      const [value, encoding] = args;
      if (
        typeof value === 'string' &&
        (encoding === undefined || encoding === 'utf8' || encoding === 'utf-8')
      ) {
        return bufferOfText(value);
      }
      return apply(portableFrom, PortableBuffer, args);
    },
    writable: true,
    configurable: true,
  });
  const portableToString = portable.toString as (...args: unknown[]) => string;
  defineProperty(prototype, 'toString', {
    value: function (this: Uint8Array, ...args: unknown[]): string {
      const [encoding, start] = args;
      if (
        start === undefined &&
        (encoding === undefined || encoding === 'utf8' || encoding === 'utf-8')
      ) {
        return textOfBytes(this);
      }
      return apply(portableToString, this, args);
    },
    writable: true,
    configurable: true,
  });
  const global = globalThis as unknown as Record<string, unknown>;
  global.Buffer = PortableBuffer;
}

/** True for text whose UTF-8 bytes are its characters. */
export function isAscii(text: string): boolean {
  return apply(matches, ascii, [text]) !== null;
}

/** A new `Buffer` with the UTF-8 bytes of a text. */
export function bufferOfText(text: string): Uint8Array {
  if (isAscii(text)) return bufferOfBytestring(text);
  const length = host.utf8Length(text);
  const made = newBuffer(length);
  host.utf8Write(made, text);
  return made;
}

/** A new `Buffer` with the bytes of a bytestring. */
export function bufferOfBytestring(bytestring: string): Uint8Array {
  const { length } = bytestring;
  const made = newBuffer(length);
  if (length <= shortLength) {
    for (let at = 0; at < length; at++) made[at] = bytestring.charCodeAt(at);
  } else {
    host.latin1Write(made, bytestring);
  }
  return made;
}

/** The text whose UTF-8 bytes these are. */
export function textOfBytes(bytes: Uint8Array): string {
  return host.utf8Slice(bytes);
}

/**
 * The bytestring of what a contract hands over as bytes: a typed array, or a string (UTF-8).
 *
 * @throws TypeError in the contract's realm
 */
export function bytestringOfValue(value: unknown, what: string): string {
  if (typeof value === 'string') {
    return isAscii(value) ? value : bytestringOfBytes(bufferOfText(value));
  }
  if (!isView(value)) throw new TypeError(`${what} must be a Buffer, a Uint8Array or a string`);
  return bytestringOfBytes(value as Uint8Array);
}

function bytestringOfBytes(bytes: Uint8Array): string {
  return host.latin1Slice(bytes);
}

function newBuffer(length: number): Uint8Array {
  countBufferBytes(length);
  return new FastBuffer(length);
}
