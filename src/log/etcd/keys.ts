import { limits } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';

/**
 * Names of the log's keys in etcd; addresses in fixed-width hexadecimal, so that key order is
 * address order. One range, `watched`, holds the entries and the fence: a follower needs one watch.
 */
export interface Keys {
  /** {@link Fence} of the unit. */
  readonly fence: Buffer;
  /** Stands while entries may be put; before all entries, so that one deletion takes it with them. */
  readonly gate: Buffer;
  /** Means nothing: see space.ts. */
  readonly nudge: Buffer;
  /** Who leads: see leadership.ts. */
  readonly leader: Buffer;
  /** Who is to lead next: the others hold back while it exists. */
  readonly successor: Buffer;
  /** Registered nodes: see registry.ts. */
  readonly nodes: Buffer;
  /** Nodes that stay known without a lease: see remembered.ts. */
  readonly remembered: Buffer;
  readonly entriesEnd: Buffer;
  readonly watchedEnd: Buffer;
  entry(address: Address): Buffer;
  addressOf(entryKey: Buffer): Address;
  /** Prefix of the parts of entries at `address`; those of one write have `id` in common. */
  part(address: Address, id?: string, index?: number): Buffer;
  layout(generation: number): Buffer;
}

const addressDigits = 14;

/** Keys that begin with `prefix`. */
export function keysOf(prefix: string): Keys {
  const entries = `${prefix}e/`;
  const hex = (address: Address): string => address.toString(16).padStart(addressDigits, '0');
  const key = (name: string): Buffer => Buffer.from(prefix + name, 'utf8');
  const digitsFrom = Buffer.byteLength(entries);
  return {
    fence: key('fence'),
    gate: key('e.'),
    nudge: key('nudge'),
    leader: key('leader'),
    successor: key('successor'),
    nodes: key('node/'),
    remembered: key('known/'),
    entriesEnd: key('e0'),
    watchedEnd: key('fencf'),
    entry: (address) => Buffer.from(entries + hex(address), 'utf8'),
    addressOf: (entryKey) => Number.parseInt(entryKey.latin1Slice(digitsFrom), 16) as Address,
    part: (address, id, index) =>
      key(
        `p/${hex(address)}/${id === undefined ? '' : `${id}/`}${
          index === undefined ? '' : String(index).padStart(4, '0')
        }`,
      ),
    layout: (generation) => key(`layout/${String(generation).padStart(8, '0')}`),
  };
}

/** The key of a node below `prefix`, which is {@link Keys.nodes} or {@link Keys.remembered}. */
export function nodeKey(prefix: Buffer, name: string): Buffer {
  return Buffer.concat([prefix, Buffer.from(name, 'utf8')]);
}

/** The request for all nodes below such a prefix. */
export function nodesRange(prefix: Buffer): { key: Buffer; range_end: Buffer; limit: number } {
  return { key: prefix, range_end: prefixEnd(prefix), limit: limits.nodesMax };
}

/** The end of the range of all keys that begin with `prefix`. */
export function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end[end.length - 1] as number) + 1;
  return end;
}
