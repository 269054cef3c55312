import type { Address } from '../../model/index.ts';

/** Which addresses are written: all below `contiguous`, and some ahead of it. */
export class WrittenAddresses {
  #contiguous: Address;
  #tail: Address;
  readonly #ahead = new Set<number>();

  constructor(start: Address) {
    this.#contiguous = start;
    this.#tail = start;
  }

  /** The first address that is still open. */
  get contiguous(): Address {
    return this.#contiguous;
  }

  /** The first address behind everything written. */
  get tail(): Address {
    return this.#tail;
  }

  has(address: Address): boolean {
    return address < this.#contiguous || this.#ahead.has(address);
  }

  add(address: Address): void {
    if (address >= this.#tail) this.#tail = (address + 1) as Address;
    if (address > this.#contiguous) {
      this.#ahead.add(address);
    } else if (address === this.#contiguous) {
      this.#contiguous = (address + 1) as Address;
      this.#advance();
    }
  }

  /** Addresses below `start` are gone: nobody may write them any more. */
  trim(start: Address): void {
    if (start <= this.#contiguous) return;
    for (const address of this.#ahead) if (address < start) this.#ahead.delete(address);
    this.#contiguous = start;
    if (start > this.#tail) this.#tail = start;
    this.#advance();
  }

  #advance(): void {
    while (this.#ahead.delete(this.#contiguous)) {
      this.#contiguous = (this.#contiguous + 1) as Address;
    }
  }
}
