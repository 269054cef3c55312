const pageBytes = 16 * 1024;
/** Pages kept for later worlds at most: 256 MiB. */
const idlePagesMax = 16 * 1024;
const idlePages: Buffer[] = [];

/**
 * The pages of one simulated disk. They go from world to world: files that grow are what a world
 * would spend most memory on, and new memory costs more than the bytes that are written to it.
 */
export class PagePool {
  readonly #used: Buffer[] = [];

  /** A page of zeros. */
  take(): Buffer {
    const page = idlePages.pop()?.fill(0) ?? Buffer.alloc(pageBytes);
    this.#used.push(page);
    return page;
  }

  /** The world is over: nobody reads or writes its files any more. */
  release(): void {
    for (const page of this.#used.splice(0)) {
      if (idlePages.length < idlePagesMax) idlePages.push(page);
    }
  }
}

/** Bytes of a simulated file, as many as are written; what was not written is zero. */
export class PagedBytes {
  readonly #pool: PagePool;
  readonly #pages: (Buffer | undefined)[] = [];

  constructor(pool: PagePool) {
    this.#pool = pool;
  }

  write(bytes: Uint8Array, offset: number): void {
    for (let at = 0; at < bytes.length; ) {
      const within = (offset + at) % pageBytes;
      const count = Math.min(bytes.length - at, pageBytes - within);
      const part = count === bytes.length ? bytes : bytes.subarray(at, at + count);
      this.#pageAt(offset + at).set(part, within);
      at += count;
    }
  }

  /** Fills `target` with what stands from `offset` on. */
  read(target: Uint8Array, offset: number): void {
    for (let at = 0; at < target.length; ) {
      const within = (offset + at) % pageBytes;
      const count = Math.min(target.length - at, pageBytes - within);
      const page = this.#pages[pageNumber(offset + at)];
      if (page === undefined) target.fill(0, at, at + count);
      else page.copy(target, at, within, within + count);
      at += count;
    }
  }

  /** The first `size` bytes. */
  head(size: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(size);
    this.read(bytes, 0);
    return bytes;
  }

  /** Takes over `count` bytes that stand in another at `start`. */
  copy(from: PagedBytes, start: number, count: number, offset: number): void {
    for (let at = 0; at < count; ) {
      const within = (start + at) % pageBytes;
      const length = Math.min(count - at, pageBytes - within);
      const page = from.#pages[pageNumber(start + at)] ?? noBytes;
      this.write(page.subarray(within, within + length), offset + at);
      at += length;
    }
  }

  /** Becomes equal to another. */
  become(other: PagedBytes): void {
    this.clear(0);
    for (const [number, page] of other.#pages.entries()) {
      if (page !== undefined) this.write(page, number * pageBytes);
    }
  }

  /** All bytes from `offset` on become zero. */
  clear(offset: number): void {
    for (let at = offset; at < this.#pages.length * pageBytes; at += pageBytes - (at % pageBytes)) {
      this.#pages[pageNumber(at)]?.fill(0, at % pageBytes);
    }
  }

  /** Turns bits of one byte. */
  flip(offset: number, bits: number): void {
    const page = this.#pageAt(offset);
    const within = offset % pageBytes;
    page[within] = (page[within] as number) ^ bits;
  }

  #pageAt(offset: number): Buffer {
    const number = pageNumber(offset);
    let page = this.#pages[number];
    if (page === undefined) {
      page = this.#pool.take();
      this.#pages[number] = page;
    }
    return page;
  }
}

const noBytes = Buffer.alloc(pageBytes);

function pageNumber(offset: number): number {
  return Math.floor(offset / pageBytes);
}
