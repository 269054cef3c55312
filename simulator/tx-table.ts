/** Slots a table begins with; a power of two. */
const firstSlots = 1024;
/** A full table becomes so many times as large: few copies, and slots that nobody uses cost little. */
const growth = 4;

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

  /** The value of an id. @param at - where in `bytes` it begins. */
  get(bytes: Uint8Array, at = 0): number | undefined {
    const stored = this.#values[this.#slot(bytes, at)] as number;
    return stored === 0 ? undefined : stored - 1;
  }

  /** Puts an id in that is not there yet. @returns the value it has already, if it has one. */
  add(txId: Uint8Array, value: number): number | undefined {
    const slot = this.#slot(txId, 0);
    const stored = this.#values[slot] as number;
    if (stored !== 0) return stored - 1;
    for (let word = 0; word < 4; word++) this.#words[slot * 4 + word] = wordOf(txId, word * 4);
    this.#values[slot] = value + 1;
    this.#size++;
    if (this.#size * 2 > this.#values.length) this.#grow();
    return undefined;
  }

  /** Where an id is, or would go. */
  #slot(bytes: Uint8Array, at: number): number {
    const first = wordOf(bytes, at);
    const second = wordOf(bytes, at + 4);
    const third = wordOf(bytes, at + 8);
    const fourth = wordOf(bytes, at + 12);
    return slotOf(this.#words, this.#values, first, second, third, fourth);
  }

  #grow(): void {
    const [words, values] = [this.#words, this.#values];
    this.#words = new Int32Array(words.length * growth);
    this.#values = new Float64Array(values.length * growth);
    for (let from = 0; from < values.length; from++) {
      if (values[from] === 0) continue;
      const first = words[from * 4] as number;
      const second = words[from * 4 + 1] as number;
      const third = words[from * 4 + 2] as number;
      const fourth = words[from * 4 + 3] as number;
      const slot = slotOf(this.#words, this.#values, first, second, third, fourth);
      this.#words[slot * 4] = first;
      this.#words[slot * 4 + 1] = second;
      this.#words[slot * 4 + 2] = third;
      this.#words[slot * 4 + 3] = fourth;
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

function slotOf(
  words: Int32Array,
  values: Float64Array,
  first: number,
  second: number,
  third: number,
  fourth: number,
): number {
  const mask = values.length - 1;
  for (let slot = first & mask; ; slot = (slot + 1) & mask) {
    if (values[slot] === 0) return slot;
    const at = slot * 4;
    const same =
      words[at] === first &&
      words[at + 1] === second &&
      words[at + 2] === third &&
      words[at + 3] === fourth;
    if (same) return slot;
  }
}
