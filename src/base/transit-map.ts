/**
 * A map whose entries come and go all the time; they are read and removed by key as in a `Map`.
 *
 * V8 gives a `Map` a new table after so many removals. The old table goes on holding what was in the
 * map then, and leads to the next one; so once one table has grown old, every later one and all that
 * stood in it survives until the next full collection. Under load that was most of what the collector
 * copied. Here the values stand in an array, and the tables lead to numbers only.
 */
export class TransitMap<Key, Value extends object> {
  readonly #places = new Map<Key, number>();
  readonly #values: (Value | undefined)[] = [];
  /** Places in the array that are not in use. */
  readonly #free: number[] = [];

  get size(): number {
    return this.#places.size;
  }

  get(key: Key): Value | undefined {
    const place = this.#places.get(key);
    return place === undefined ? undefined : this.#values[place];
  }

  set(key: Key, value: Value): void {
    let place = this.#places.get(key);
    if (place === undefined) {
      place = this.#free.pop() ?? this.#values.length;
      this.#places.set(key, place);
    }
    this.#values[place] = value;
  }

  /** @returns the value that stood there. */
  delete(key: Key): Value | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    const value = this.#values[place];
    this.#places.delete(key);
    this.#values[place] = undefined;
    this.#free.push(place);
    return value;
  }

  clear(): void {
    this.#places.clear();
    this.#values.length = 0;
    this.#free.length = 0;
  }

  /** Keys in the order in which they came; one may be removed meanwhile. */
  keys(): IterableIterator<Key> {
    return this.#places.keys();
  }

  /** In the order of {@link TransitMap.keys}. */
  *values(): Generator<Value, void> {
    for (const place of this.#places.values()) yield this.#values[place] as Value;
  }
}
