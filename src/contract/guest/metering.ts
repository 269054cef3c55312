/* oxlint-disable typescript/unbound-method -- built-ins are taken before contracts can replace them */
import { countBufferBytes } from './current-call.ts';

/*
 * Counts every allocation of buffer memory, which heap limits do not see. All constructors of it
 * are replaced by counting ones; methods that allocate may go round `constructor`, so those are counted
 * too (some copies twice).
 */

const construct = Reflect.construct;
const defineProperty = Object.defineProperty;
const arrayBufferBytes = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength')?.get;
const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
const typedArrayBytes = Object.getOwnPropertyDescriptor(typedArrayPrototype, 'byteLength')?.get;
const apply = Reflect.apply;

type Constructor = new (...args: unknown[]) => object;

/** Replaces the constructors in this realm. Must run before any contract code. */
export function installMetering(): void {
  for (const original of [
    Uint8Array,
    Int8Array,
    Uint16Array,
    Int16Array,
    Uint32Array,
    Int32Array,
    Float32Array,
    Float64Array,
    Uint8ClampedArray,
    BigUint64Array,
    BigInt64Array,
  ]) {
    replace(original.name, meteredTypedArray(original as unknown as Constructor));
  }
  replace('ArrayBuffer', meteredArrayBuffer());
  for (const name of ['slice', 'map', 'filter', 'toReversed', 'toSorted', 'with']) {
    countCopies(typedArrayPrototype, name, typedArrayBytes);
  }
  countCopies(ArrayBuffer.prototype, 'slice', arrayBufferBytes);
  // `Buffer` must not lead to the constructor that does not count.
  Object.setPrototypeOf(Buffer, Uint8Array);
}

function meteredTypedArray(original: Constructor): Constructor {
  const elementBytes = (original as unknown as { BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT;
  const metered = function (this: unknown, ...args: unknown[]): object {
    if (new.target === undefined) throw new TypeError(`${original.name} needs 'new'`);
    const first = args[0];
    if (typeof first !== 'object' || first === null) {
      // Converted once, or an object could answer twice, differently.
      const length = first === undefined ? 0 : Number(first);
      countBufferBytes(length * elementBytes);
      return construct(original, [length], new.target);
    }
    const made = construct(original, args, new.target) as object;
    if (!isArrayBuffer(first)) countBufferBytes(bytesOf(typedArrayBytes, made));
    return made;
  };
  return dress(metered, original);
}

function meteredArrayBuffer(): Constructor {
  const original = ArrayBuffer as unknown as Constructor;
  const metered = function (this: unknown, ...args: unknown[]): object {
    if (new.target === undefined) throw new TypeError("ArrayBuffer needs 'new'");
    const length = args[0] === undefined ? 0 : Number(args[0]);
    countBufferBytes(length);
    // Without the options argument: a resizable buffer could grow uncounted.
    return construct(original, [length], new.target);
  };
  const dressed = dress(metered, original);
  defineProperty(dressed, 'isView', { value: ArrayBuffer.isView, writable: true });
  return dressed;
}

function dress(metered: unknown, original: Constructor): Constructor {
  const target = metered as Constructor;
  Object.setPrototypeOf(target, Object.getPrototypeOf(original) as object);
  const bytes = (original as unknown as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT;
  if (bytes !== undefined) defineProperty(target, 'BYTES_PER_ELEMENT', { value: bytes });
  if (original.name === 'ArrayBuffer') {
    defineProperty(target, Symbol.species, {
      get(this: unknown) {
        return this;
      },
    });
  }
  defineProperty(target, 'name', { value: original.name });
  defineProperty(target, 'prototype', { value: original.prototype, writable: false });
  defineProperty(original.prototype, 'constructor', { value: target, writable: true });
  return target;
}

function replace(name: string, value: unknown): void {
  defineProperty(globalThis, name, { value, writable: true, configurable: true });
}

function countCopies(prototype: object, name: string, bytes: (() => unknown) | undefined): void {
  const holder = prototype as Record<string, (...args: unknown[]) => unknown>;
  const original = holder[name];
  if (original === undefined) return;
  defineProperty(holder, name, {
    value: function (this: object, ...args: unknown[]): unknown {
      countBufferBytes(bytesOf(bytes, this));
      return apply(original, this, args);
    },
    writable: true,
    configurable: true,
  });
}

function isArrayBuffer(value: object): boolean {
  try {
    bytesOf(arrayBufferBytes, value);
    return true;
  } catch {
    return false;
  }
}

function bytesOf(getter: (() => unknown) | undefined, value: object): number {
  return getter === undefined ? 0 : (apply(getter, value, []) as number);
}
