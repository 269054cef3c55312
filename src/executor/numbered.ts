const roomMin = 64;

/**
 * Things under consecutive numbers that go roughly in the order in which they came: a ring as long
 * as the greatest distance between two that are there, which is quicker than a map and leaves
 * nothing behind for the collector.
 */
export class Numbered<T> {
  /** The thing of number `n` is at `n` modulo the length, a power of two. */
  #ring: (T | undefined)[] = new Array(roomMin).fill(undefined);
  /** All numbers that are there are `#first` or greater, and less than `#end`. */
  #first = 0;
  #end = 0;
  #size = 0;

  /** How many are there. */
  get size(): number {
    return this.#size;
  }

  get(number: number): T | undefined {
    return number >= this.#first && number < this.#end ? this.#ring[this.#at(number)] : undefined;
  }

  /** Adds a thing; there is none of this number yet. */
  add(number: number, thing: T): void {
    if (this.#size === 0) this.#first = this.#end = number;
    const first = Math.min(this.#first, number);
    const end = Math.max(this.#end, number + 1);
    if (end - first > this.#ring.length) this.#grow(end - first);
    this.#first = first;
    this.#end = end;
    this.#ring[this.#at(number)] = thing;
    this.#size++;
  }

  /** Takes a thing out. @returns `undefined`: it is not there. */
  take(number: number): T | undefined {
    const thing = this.get(number);
    if (thing === undefined) return undefined;
    this.#ring[this.#at(number)] = undefined;
    this.#size--;
    if (this.#size === 0) this.#first = this.#end;
    else if (number === this.#first) {
      do this.#first++;
      while (this.#ring[this.#at(this.#first)] === undefined);
    }
    return thing;
  }

  /** All that are there, by number. */
  values(): T[] {
    const things: T[] = [];
    for (let number = this.#first; number < this.#end; number++) {
      const thing = this.#ring[this.#at(number)];
      if (thing !== undefined) things.push(thing);
    }
    return things;
  }

  clear(): void {
    this.#ring = new Array(roomMin).fill(undefined);
    this.#first = 0;
    this.#end = 0;
    this.#size = 0;
  }

  #at(number: number): number {
    // The lowest bits, of numbers over 2^32 too.
    return number & (this.#ring.length - 1);
  }

  #grow(length: number): void {
    let room = this.#ring.length;
    while (room < length) room *= 2;
    const ring: (T | undefined)[] = new Array(room).fill(undefined);
    for (let number = this.#first; number < this.#end; number++) {
      ring[number & (room - 1)] = this.#ring[this.#at(number)];
    }
    this.#ring = ring;
  }
}
