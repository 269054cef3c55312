const firstRows = 1024;
/** The first bytes of a transaction id, which is a hash, tell it apart. */
const idBytes = 16;

/** Calls of a client whose commit was answered, in columns: there are very many of them. */
export class CommittedCalls {
  #ids = new Uint8Array(firstRows * idBytes);
  /** Per call: position, hash of the result, when it was sent, when it was answered (µs). */
  #columns = new Float64Array(firstRows * 4);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @param txId - hexadecimal. */
  add(
    txId: string,
    position: number,
    result: string,
    submittedUs: number,
    answeredUs: number,
  ): void {
    const row = this.#count++;
    if (row * 4 === this.#columns.length) this.#grow();
    for (let at = 0; at < idBytes; at++) {
      this.#ids[row * idBytes + at] =
        (digit(txId.charCodeAt(at * 2)) << 4) | digit(txId.charCodeAt(at * 2 + 1));
    }
    this.#columns[row * 4] = position;
    this.#columns[row * 4 + 1] = resultHash(result);
    this.#columns[row * 4 + 2] = submittedUs;
    this.#columns[row * 4 + 3] = answeredUs;
  }

  /** The first bytes of all transaction ids; a call's begin at {@link CommittedCalls.idAt}. */
  get ids(): Uint8Array {
    return this.#ids;
  }

  idAt(row: number): number {
    return row * idBytes;
  }

  position(row: number): number {
    return this.#columns[row * 4] as number;
  }

  /** See {@link resultHash}. */
  result(row: number): number {
    return this.#columns[row * 4 + 1] as number;
  }

  submittedUs(row: number): number {
    return this.#columns[row * 4 + 2] as number;
  }

  answeredUs(row: number): number {
    return this.#columns[row * 4 + 3] as number;
  }

  #grow(): void {
    const [ids, columns] = [this.#ids, this.#columns];
    this.#ids = new Uint8Array(ids.length * 2);
    this.#ids.set(ids);
    this.#columns = new Float64Array(columns.length * 2);
    this.#columns.set(columns);
  }
}

/** Stands for a result where very many are compared. */
export function resultHash(result: string): number {
  let hash = 0x811c_9dc5;
  for (let at = 0; at < result.length; at++) {
    hash = Math.imul(hash ^ result.charCodeAt(at), 0x0100_0193);
  }
  return hash;
}

function digit(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}
