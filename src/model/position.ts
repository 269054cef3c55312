import { AssertionError, limits } from '../base/index.ts';

declare const addressBrand: unique symbol;
declare const positionBrand: unique symbol;

/** Position of an entry in the log: 0, 1, 2, … A safe integer; u64 big-endian on disk. */
export type Address = number & { readonly [addressBrand]: true };

/**
 * Where a commit record stands: (address, index in the entry) as one safe integer,
 * `address * recordsPerEntryMax + index`. The version of a key is the position of the record that
 * last wrote it. Positions order as the log does.
 */
export type Position = number & { readonly [positionBrand]: true };

/** Brands a safe non-negative integer as an address. */
export function asAddress(value: number): Address {
  if (!isCount(value)) fail('an address', value);
  return value as Address;
}

/** Brands a safe non-negative integer as a position. */
export function asPosition(value: number): Position {
  if (!isCount(value)) fail('a position', value);
  return value as Position;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** Apart, so that a message is only made when it is needed: positions are made all the time. */
function fail(what: string, value: number): never {
  throw new AssertionError(`not ${what}: ${value}`);
}

/** The address after this one. */
export function nextAddress(address: Address): Address {
  return (address + 1) as Address;
}

/** The position of record `index` of the entry at `address`. */
export function positionOf(address: Address, index: number): Position {
  return (address * limits.recordsPerEntryMax + index) as Position;
}

/** The address part of a position. */
export function addressOf(position: Position): Address {
  return Math.floor(position / limits.recordsPerEntryMax) as Address;
}

/** The index part of a position. */
export function indexOf(position: Position): number {
  return position % limits.recordsPerEntryMax;
}
