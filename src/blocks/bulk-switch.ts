import { type ByteReader, type Bytestring, type ByteWriter, limits } from '../base/index.ts';
import { type BulkRule, bulkRuleDefaults, merkleRoot, type Position } from '../model/index.ts';
import {
  decodeRecordedUpdate,
  encodeRecordedUpdate,
  noPendingUpdates,
  PendingUpdate,
  pendingLeaf,
  type RecordedUpdate,
  type StateWrite,
} from '../state/index.ts';

interface Waiting {
  readonly update: PendingUpdate;
  /** Number of the block whose root is the first to cover its rows. */
  readonly height: number;
  /** Keys in its ranges that were written after it: its rows of these keys are out of date. */
  readonly written: Set<Bytestring>;
}

/**
 * Bulk updates between their own block and the one that *switches* to their rows. Until then the
 * state root covers the rows without them, and says which they are: the *pending root*. A normal
 * update switches in its own block, a heavy one `switchAfterBlocks` later; with one switch all
 * earlier updates switch too, so rows never go back. A function of the log alone.
 */
export class BulkSwitch {
  #waiting: Waiting[] = [];

  /** Takes up what {@link BulkSwitch.encode} wrote. @throws {DaybookError} `MALFORMED` */
  static decode(reader: ByteReader): BulkSwitch {
    const bulk = new BulkSwitch();
    for (let count = reader.u32(); count > 0; count--) {
      const update = new PendingUpdate(decodeRecordedUpdate(reader));
      const height = reader.u64();
      const written = new Set<Bytestring>();
      for (let keys = reader.u32(); keys > 0; keys--) {
        written.add(reader.bytestring(limits.keyBytesMax * 2));
      }
      bulk.#waiting.push({ update, height, written });
    }
    return bulk;
  }

  /** Appends what waits, for a checkpoint. */
  encode(writer: ByteWriter): void {
    writer.u32(this.#waiting.length);
    for (const { update, height, written } of this.#waiting) {
      encodeRecordedUpdate(writer, update.recorded);
      writer.u64(height).u32(written.size);
      for (const key of written) writer.bytestring(key);
    }
  }

  /** Positions of the updates that wait, ascending. */
  get positions(): Position[] {
    return this.#waiting.map(({ update }) => update.position);
  }

  /** What the state root says of them. */
  get pendingRoot(): Buffer {
    if (this.#waiting.length === 0) return noPendingUpdates;
    return merkleRoot(this.#waiting.map(({ update }) => pendingLeaf(update.recorded)));
  }

  /** Updates that switch in the block `height`, which brings `added` itself; ascending. */
  due(height: number, added: readonly RecordedUpdate[], rule: BulkRule | undefined): Position[] {
    let last = -1;
    for (const one of this.#waiting) {
      if (one.height <= height) last = Math.max(last, one.update.position);
    }
    for (const update of added) {
      if (switchHeight(height, update, rule) <= height) last = Math.max(last, update.position);
    }
    const all = [...this.positions, ...added.map(({ position }) => position)];
    return all.filter((position) => position <= last);
  }

  /**
   * Takes a block in: after its writes are in the tree.
   *
   * @param writes - the last write of each key in the block.
   * @returns the updates that switch now, in order. `keeps` tells which of their rows count.
   */
  step(
    height: number,
    added: readonly RecordedUpdate[],
    rule: BulkRule | undefined,
    writes: Iterable<Pick<StateWrite, 'key' | 'version'>>,
  ): { readonly position: Position; readonly keeps: (key: Bytestring) => boolean }[] {
    const due = this.due(height, added, rule).length;
    for (const recorded of added) {
      this.#waiting.push({
        update: new PendingUpdate(recorded),
        height: switchHeight(height, recorded, rule),
        written: new Set(),
      });
    }
    if (this.#waiting.length === 0) return [];
    for (const { key, version } of writes) {
      for (const { update, written } of this.#waiting) {
        if (version >= update.position && update.covers(key)) written.add(key);
      }
    }
    return this.#waiting.splice(0, due).map(({ update, written }) => ({
      position: update.position,
      keeps: (key) => !written.has(key),
    }));
  }
}

function switchHeight(
  height: number,
  update: RecordedUpdate,
  rule: BulkRule = bulkRuleDefaults,
): number {
  return update.heavy ? height + rule.switchAfterBlocks : height;
}
