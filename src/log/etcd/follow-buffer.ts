import type { Address } from '../../model/index.ts';

/** Anything that stands at an address and takes space. */
export interface Addressed {
  readonly address: Address;
  /** Bytes; counts against the buffer's. */
  readonly size: number;
}

const overheadBytes = 200;

/**
 * Puts entries that arrive in any order, perhaps repeatedly, into address order. Pure. Holds at
 * most `bytesMax` (and one entry), except that the entries due next are always taken: they leave
 * with the next {@link FollowBuffer.take}.
 */
export class FollowBuffer<Entry extends Addressed> {
  readonly #bytesMax: number;
  readonly #held = new Map<Address, Entry>();
  #next: Address;
  #bytes = 0;
  /** End of the contiguous run that starts at `next`. */
  #ready: Address;

  constructor(from: Address, bytesMax: number) {
    this.#next = from;
    this.#ready = from;
    this.#bytesMax = bytesMax;
  }

  /** The address that the reader gets next. */
  get next(): Address {
    return this.#next;
  }

  /** The first address that is missing. */
  get missing(): Address {
    return this.#ready;
  }

  /** There are entries to take. */
  get isReady(): boolean {
    return this.#ready > this.#next;
  }

  /** Nothing more is taken but, when there is nothing to give, the entry at `missing`. */
  get isFull(): boolean {
    return this.#bytes >= this.#bytesMax;
  }

  has(address: Address): boolean {
    return address < this.#next || this.#held.has(address);
  }

  /** False when there was no room: offer it again later. */
  add(entry: Entry): boolean {
    const { address } = entry;
    if (this.has(address)) return true;
    if (this.isFull && (address !== this.#ready || this.isReady)) return false;
    this.#held.set(address, entry);
    this.#bytes += entry.size + overheadBytes;
    while (this.#held.has(this.#ready)) this.#ready = (this.#ready + 1) as Address;
    return true;
  }

  /** Removes and returns the contiguous entries from `next` on, up to about `bytesMax` bytes. */
  take(bytesMax: number): Entry[] {
    const taken: Entry[] = [];
    let bytes = 0;
    while (bytes < bytesMax) {
      const entry = this.#held.get(this.#next);
      if (entry === undefined) break;
      this.#held.delete(this.#next);
      this.#bytes -= entry.size + overheadBytes;
      this.#next = (this.#next + 1) as Address;
      bytes += entry.size + overheadBytes;
      taken.push(entry);
    }
    return taken;
  }
}
