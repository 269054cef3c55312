/* oxlint-disable typescript/unbound-method -- built-ins are taken before contracts can replace them */
import { nowMs } from './current-call.ts';
import { nondeterministic } from './errors.ts';

const defineProperty = Object.defineProperty;
const construct = Reflect.construct;

/** Closes the doors to time, chance, memory layout and locale. Must run before contract code. */
export function installDeterminism(): void {
  for (const name of [
    'SharedArrayBuffer',
    'Atomics',
    'WebAssembly',
    'WeakRef',
    'FinalizationRegistry',
    'Intl',
    'eval',
  ]) {
    Reflect.deleteProperty(globalThis, name);
  }
  Math.random = () => {
    throw nondeterministic('Math.random');
  };
  installDate();
  installLocale();
  closeErrorStacks();
}

/** `Date` whose present is the transaction's timestamp. The process runs in UTC. */
function installDate(): void {
  const Original = Date;
  const replacement = function (...args: unknown[]): unknown {
    if (new.target === undefined) return new Original(nowMs()).toString();
    return construct(Original, args.length === 0 ? [nowMs()] : args, new.target);
  };
  defineProperty(replacement, 'name', { value: 'Date' });
  defineProperty(replacement, 'length', { value: 7 });
  defineProperty(replacement, 'prototype', { value: Original.prototype, writable: false });
  method(replacement, 'now', () => nowMs());
  method(replacement, 'parse', Original.parse);
  method(replacement, 'UTC', Original.UTC);
  method(Original.prototype, 'constructor', replacement);
  const isoDate = Original.prototype.toISOString;
  const cut = String.prototype.slice;
  const part = (from: number, to: number) =>
    function (this: Date): string {
      return Reflect.apply(cut, Reflect.apply(isoDate, this, []), [from, to]);
    };
  method(Original.prototype, 'toLocaleString', part(0, 24));
  method(Original.prototype, 'toLocaleDateString', part(0, 10));
  method(Original.prototype, 'toLocaleTimeString', part(11, 19));
  method(globalThis, 'Date', replacement);
}

/** Locale data differ between builds of Node: what depended on it is plain or gone. */
function installLocale(): void {
  for (const prototype of [
    Number.prototype,
    BigInt.prototype,
    Array.prototype,
    Object.getPrototypeOf(Uint8Array.prototype) as object,
  ]) {
    method(prototype, 'toLocaleString', function (this: { toString(): string }): string {
      return this.toString();
    });
  }
  method(String.prototype, 'toLocaleUpperCase', String.prototype.toUpperCase);
  method(String.prototype, 'toLocaleLowerCase', String.prototype.toLowerCase);
  method(String.prototype, 'localeCompare', function (this: string, other: unknown): number {
    const left = `${this}`;
    const right = `${other as string}`;
    return left < right ? -1 : left > right ? 1 : 0;
  });
}

/**
 * Errors carry no stack: it names files of the node, and formatting one runs code of the process
 * outside the sandbox, whose own exceptions (stack overflow) would come out in the contract.
 */
function closeErrorStacks(): void {
  const closed = { value: undefined, writable: false, configurable: false, enumerable: false };
  defineProperty(Error, 'stackTraceLimit', closed);
  defineProperty(Error, 'prepareStackTrace', {
    get: () => undefined,
    set: () => undefined,
    configurable: false,
  });
  defineProperty(Error, 'captureStackTrace', { value: () => undefined, writable: true });
  defineProperty(globalThis, 'Error', { value: Error, writable: false, configurable: false });
}

function method(holder: object, name: string, value: unknown): void {
  defineProperty(holder, name, { value, writable: true, configurable: true, enumerable: false });
}
