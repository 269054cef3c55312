/** Slots a table begins with; a power of two. */
const firstSlots = 1024;

/**
 * A number for each of very many transaction ids: an open hash table of plain numbers, since a map
 * of strings costs a simulation more than the code that it tests. Ids are hashes, so their first 16
 * bytes tell them apart.
 */
export class TxTable {
  #words = new Int32Array(firstSlots * 4);
  /** Value plus one; 0: a free slot. */
  #values = new Float64Array(firstSlots);
  #size = 0;

  /** Ids in it. */
  get size(): number {
    return this.#size;
  }

  /** The value of an id. */
  get(txId: Uint8Array): number | undefined {
    const stored = this.#values[this.#slot(txId)] as number;
    return stored === 0 ? undefined : stored - 1;
  }

  /** Puts an id in that is not there yet. @returns the value it has already, if it has one. */
  add(txId: Uint8Array, value: number): number | undefined {
    const slot = this.#slot(txId);
    const stored = this.#values[slot] as number;
    if (stored !== 0) return stored - 1;
    for (let word = 0; word < 4; word++) this.#words[slot * 4 + word] = wordOf(txId, word * 4);
    this.#values[slot] = value + 1;
    this.#size++;
    if (this.#size * 2 > this.#values.length) this.#grow();
    return undefined;
  }

  /** Where an id is, or would go. */
  #slot(txId: Uint8Array): number {
    return slotOf(this.#words, this.#values, [
      wordOf(txId, 0),
      wordOf(txId, 4),
      wordOf(txId, 8),
      wordOf(txId, 12),
    ]);
  }

  #grow(): void {
    const [words, values] = [this.#words, this.#values];
    this.#words = new Int32Array(words.length * 2);
    this.#values = new Float64Array(values.length * 2);
    for (let from = 0; from < values.length; from++) {
      if (values[from] === 0) continue;
      const id = words.subarray(from * 4, from * 4 + 4);
      const slot = slotOf(this.#words, this.#values, id);
      this.#words.set(id, slot * 4);
      this.#values[slot] = values[from] as number;
    }
  }
}

function wordOf(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

function slotOf(words: Int32Array, values: Float64Array, id: ArrayLike<number>): number {
  const mask = values.length - 1;
  let slot = (id[0] as number) & mask;
  for (;;) {
    if (values[slot] === 0) return slot;
    const at = slot * 4;
    const same =
      words[at] === id[0] &&
      words[at + 1] === id[1] &&
      words[at + 2] === id[2] &&
      words[at + 3] === id[3];
    if (same) return slot;
    slot = (slot + 1) & mask;
  }
}
