import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';

/** Where the frame of an address lies in its segment. */
export interface FrameLocation {
  readonly offset: number;
  /** Bytes of the payload. */
  readonly length: number;
}

/** Finds frames in the segment that is being written. */
export class GrowingIndex {
  readonly #locations = new Map<number, FrameLocation>();
  #first = Number.POSITIVE_INFINITY;
  #last = -1;

  get size(): number {
    return this.#locations.size;
  }

  /** Lowest address; `size` must not be 0. */
  get first(): Address {
    return this.#first as Address;
  }

  /** Highest address; `size` must not be 0. */
  get last(): Address {
    return this.#last as Address;
  }

  add(address: Address, location: FrameLocation): void {
    this.#locations.set(address, location);
    if (address < this.#first) this.#first = address;
    if (address > this.#last) this.#last = address;
  }

  find(address: Address): FrameLocation | undefined {
    return this.#locations.get(address);
  }

  addresses(): Address[] {
    return [...this.#locations.keys()].sort((a, b) => a - b) as Address[];
  }
}

/** What the index file of a full segment tells beside the locations. */
export interface SealedSegment {
  readonly generation: number;
  readonly salt: number;
  /** All addresses below this one were written when the segment was sealed. */
  readonly contiguous: Address;
}

/** Finds frames in a segment that is full. */
export class SealedIndex {
  readonly segment: SealedSegment;
  readonly #addresses: Float64Array;
  readonly #offsets: Float64Array;
  readonly #lengths: Uint32Array;

  constructor(
    segment: SealedSegment,
    addresses: Float64Array,
    offsets: Float64Array,
    lengths: Uint32Array,
  ) {
    this.segment = segment;
    this.#addresses = addresses;
    this.#offsets = offsets;
    this.#lengths = lengths;
  }

  find(address: Address): FrameLocation | undefined {
    let low = 0;
    let high = this.#addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#addresses[middle] as number) < address) low = middle + 1;
      else high = middle;
    }
    if (this.#addresses[low] !== address) return undefined;
    return { offset: this.#offsets[low] as number, length: this.#lengths[low] as number };
  }

  /** Ascending. */
  addresses(): Address[] {
    return [...this.#addresses] as Address[];
  }
}

/** Looks up an address; the common side of both indexes. */
export type SegmentIndex = GrowingIndex | SealedIndex;

const indexVersion = 1;
const rowBytes = 8 + 8 + 4;
const countMax = 2 ** 26;

/** Bytes of an index file: header, rows by address, crc32. */
export function encodeIndex(segment: SealedSegment, index: GrowingIndex): Buffer {
  const addresses = index.addresses();
  const writer = new ByteWriter(32 + addresses.length * rowBytes);
  writer.u8(indexVersion).u32(segment.generation).u32(segment.salt).u64(segment.contiguous);
  writer.u32(addresses.length);
  for (const address of addresses) {
    const location = index.find(address);
    if (location !== undefined) writer.u64(address).u64(location.offset).u32(location.length);
  }
  return writer.u32(crc32(writer.view())).finish();
}

/** `undefined` when the bytes are damaged: an index can be made again from its segment. */
export function decodeIndex(bytes: Buffer): SealedIndex | undefined {
  const end = bytes.length - 4;
  if (end < 0 || crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) return undefined;
  const reader = new ByteReader(bytes, 'segment index', 0, end);
  if (reader.u8() !== indexVersion) return undefined;
  const segment = {
    generation: reader.u32(),
    salt: reader.u32(),
    contiguous: reader.u64() as Address,
  };
  const count = reader.length(countMax);
  const addresses = new Float64Array(count);
  const offsets = new Float64Array(count);
  const lengths = new Uint32Array(count);
  for (let row = 0; row < count; row += 1) {
    addresses[row] = reader.u64();
    offsets[row] = reader.u64();
    lengths[row] = reader.u32();
  }
  reader.finish();
  return new SealedIndex(segment, addresses, offsets, lengths);
}
