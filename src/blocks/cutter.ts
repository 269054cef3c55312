import { type Bytestring, isInside } from '../base/index.ts';
import {
  type BlockRule,
  blockRuleDefaults,
  type ChannelConfig,
  type CommitRecord,
  type ConfigEntry,
  decodeChannelConfig,
  indexOf,
  type Position,
  positionOf,
  type RecordsEntry,
  type VerdictCode,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';

/** One record on its way into a block. */
export interface BlockRecord {
  readonly position: Position;
  readonly verdict: VerdictCode;
  readonly record: CommitRecord;
  /** The entry it came in, and its place among the records there. */
  readonly applied: AppliedEntry & { readonly entry: RecordsEntry };
  readonly place: number;
}

/** What one block holds, as the rule cut it from the log. */
export interface BlockCut {
  /** The block covers `first <= position < end`. */
  readonly first: Position;
  readonly end: Position;
  /** Log time at the last record or the configuration, milliseconds since 1970. */
  readonly logTimeMs: number;
  readonly content:
    | { readonly kind: 'records'; readonly records: readonly BlockRecord[] }
    | { readonly kind: 'config'; readonly entry: ConfigEntry; readonly config: ChannelConfig };
}

/** Number of a position's transaction in a cut; `undefined`: it has none there. */
export function placeInCut({ first, content }: BlockCut, position: Position): number | undefined {
  if (content.kind === 'config') return position === first ? 0 : undefined;
  return placeAmong(content.records, position);
}

function placeAmong(records: readonly BlockRecord[], position: Position): number | undefined {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((records[middle] as BlockRecord).position < position) low = middle + 1;
    else high = middle;
  }
  return records[low]?.position === position ? low : undefined;
}

/**
 * Cuts the log into blocks. A block ends
 *
 * 1. after `recordsMax` records;
 * 2. before a record that would take it over `bytesMax`;
 * 3. before a valid record that reads a key, or a range with a key, that an earlier valid record of
 *    the block wrote (`cutBeforeReads`);
 * 4. at a `tick` entry;
 * 5. before and after a configuration that took effect: it stands alone in its block.
 *
 * There are no empty blocks. Where a block ends depends on the log alone: not on how entries are
 * handed in, and not on any clock.
 */
export class Cutter {
  #rule: BlockRule;
  #founded: boolean;
  #first: Position;
  #records: BlockRecord[] = [];
  #bytes = 0;
  #logTimeMs = 0;
  readonly #written = new Map<string, Set<Bytestring>>();

  /**
   * @param first - where the next block begins: 0, or the end of the last one.
   * @param config - the channel's configuration there; `undefined` at 0.
   */
  constructor(first: Position, config: ChannelConfig | undefined) {
    this.#first = first;
    this.#rule = config?.blocks ?? blockRuleDefaults;
    this.#founded = config !== undefined;
  }

  /** True while records wait for the end of their block. */
  get isOpen(): boolean {
    return this.#records.length > 0;
  }

  /** Where the block that is open now begins. */
  get first(): Position {
    return this.#first;
  }

  /** Number of a record in the block that is open now; `undefined`: it is not in it. */
  placeOf(position: Position): number | undefined {
    return placeAmong(this.#records, position);
  }

  /**
   * Takes the next entry. Records before the cutter's start are skipped, so a restart in the middle
   * of an entry hands in the whole entry.
   */
  push(applied: AppliedEntry): BlockCut[] {
    const { entry } = applied;
    const cuts: BlockCut[] = [];
    if (entry === undefined) return cuts;
    switch (entry.kind) {
      case 'records':
        this.#pushRecords({ ...applied, entry }, cuts);
        break;
      case 'tick':
        this.#cut(positionOf(applied.address, 0), cuts);
        break;
      case 'config':
        if (applied.configVerdict === verdicts.valid) this.#pushConfig(applied, entry, cuts);
        break;
    }
    return cuts;
  }

  #pushRecords(applied: BlockRecord['applied'], cuts: BlockCut[]): void {
    // Before its founding configuration a channel has no blocks.
    if (!this.#founded) return;
    const rule = this.#rule;
    const { records: logged } = applied.entry;
    let next = 0;
    for (const [place, { position, record, verdict }] of applied.records.entries()) {
      // Bytes that are no record are not among the applied ones.
      while ((logged[next] as { index: number }).index !== indexOf(position)) next++;
      const { length } = (logged[next] as { bytes: Uint8Array }).bytes;
      if (position < this.#first) continue;
      const valid = verdict === verdicts.valid;
      const full = this.#bytes + length > rule.bytesMax;
      if (full || (rule.cutBeforeReads && valid && this.#readsOwnBlock(record))) {
        this.#cut(position, cuts);
      }
      this.#records.push({ position, verdict, record, applied, place });
      this.#bytes += length;
      this.#logTimeMs = applied.logTimeMs;
      if (valid && rule.cutBeforeReads) this.#noteWrites(record);
      if (this.#records.length === rule.recordsMax) this.#cut((position + 1) as Position, cuts);
    }
  }

  #pushConfig(applied: AppliedEntry, entry: ConfigEntry, cuts: BlockCut[]): void {
    const position = positionOf(applied.address, 0);
    if (position < this.#first) return;
    this.#cut(position, cuts);
    const config = decodeChannelConfig(entry.config);
    const end = (position + 1) as Position;
    const { logTimeMs } = applied;
    cuts.push({ first: this.#first, end, logTimeMs, content: { kind: 'config', entry, config } });
    this.#first = end;
    this.#rule = config.blocks ?? blockRuleDefaults;
    this.#founded = true;
  }

  #cut(end: Position, cuts: BlockCut[]): void {
    if (this.#records.length === 0) return;
    cuts.push({
      first: this.#first,
      end,
      logTimeMs: this.#logTimeMs,
      content: { kind: 'records', records: this.#records },
    });
    this.#first = end;
    this.#records = [];
    this.#bytes = 0;
    this.#written.clear();
  }

  #noteWrites(record: CommitRecord): void {
    for (const { namespace, writes } of record.sets) {
      if (writes.length === 0) continue;
      let keys = this.#written.get(namespace);
      if (keys === undefined) {
        keys = new Set();
        this.#written.set(namespace, keys);
      }
      for (const { key } of writes) keys.add(key);
    }
  }

  #readsOwnBlock(record: CommitRecord): boolean {
    for (const { namespace, reads, ranges } of record.sets) {
      const keys = this.#written.get(namespace);
      if (keys === undefined) continue;
      for (const { key } of reads) if (keys.has(key)) return true;
      for (const { start, end } of ranges) {
        for (const key of keys) if (isInside(key, start, end)) return true;
      }
    }
    return false;
  }
}
