import { assert } from '../../base/index.ts';

/** Bytes of one leaf in a bucket: key hash ‖ content hash. */
export const leafBytes = 64;

const pageLeavesBits = 14;
const pageLeaves = 1 << pageLeavesBits;

/**
 * Memory for the leaves of all buckets: pages of 1 MiB outside the JavaScript heap, cut into pieces
 * of a few sizes. A piece is named by its *place*: page number and leaf in the page, in one u32.
 * A typed array per bucket would cost more than the leaves it holds.
 */
export class LeafSlab {
  readonly #pages: (Buffer | undefined)[] = [];
  readonly #free = new Map<number, number[]>();
  #next = 0;
  #end = 0;

  /** Leaves that a piece for `count` leaves has room for: at most half as many again. */
  static capacityFor(count: number): number {
    if (count <= 4) return count;
    const power = 2 ** (31 - Math.clz32(count));
    if (count === power) return power;
    return count <= power + power / 2 ? power + power / 2 : power * 2;
  }

  /** Bytes taken from the system. */
  get bytes(): number {
    return this.#pages.length * pageLeaves * leafBytes;
  }

  /** A piece of `capacity` leaves; its content is arbitrary. */
  take(capacity: number): number {
    const reused = this.#free.get(capacity)?.pop();
    if (reused !== undefined) return reused;
    if (this.#next + capacity > this.#end) this.#grow(capacity);
    const place = this.#next;
    this.#next += capacity;
    return place;
  }

  /** Gives a piece back. */
  give(place: number, capacity: number): void {
    const list = this.#free.get(capacity);
    if (list === undefined) this.#free.set(capacity, [place]);
    else list.push(place);
  }

  /** The page in which a piece lies. */
  page(place: number): Buffer {
    const page = this.#pages[place >>> pageLeavesBits];
    assert(page !== undefined, 'no such slab page');
    return page;
  }

  /** Where in its page a piece starts, in bytes. */
  offset(place: number): number {
    return (place & (pageLeaves - 1)) * leafBytes;
  }

  #grow(capacity: number): void {
    const first = this.#pages.length;
    // A piece larger than a page gets as many page numbers as it needs, and one buffer.
    const numbers = Math.ceil(capacity / pageLeaves);
    assert((first + numbers) * pageLeaves <= 0xffff_ffff, 'leaf slab full');
    this.#pages.push(Buffer.alloc(numbers * pageLeaves * leafBytes));
    for (let at = 1; at < numbers; at++) this.#pages.push(undefined);
    this.#next = first * pageLeaves;
    this.#end = this.#next + numbers * pageLeaves;
  }
}
