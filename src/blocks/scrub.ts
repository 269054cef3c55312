import { limits } from '../base/index.ts';
import { type Position, positionOf } from '../model/index.ts';
import {
  type Row,
  rowContentHash,
  type StateReader,
  type StateTree,
  stateKeyHash,
} from '../state/index.ts';

/** What the rows of a state are compared with. */
export interface ScrubReference {
  readonly tree: Pick<StateTree, 'contentHash' | 'rows' | 'buckets' | 'bucket'>;
  /** The tree covers every record before this position, and none behind it. */
  readonly covered: Position;
  /** Bulk updates whose rows the tree does not have yet. */
  readonly pending: readonly Position[];
}

/** A row of the state that is not the row of the state tree. */
export interface RowDamage {
  /**
   * `missing`: the tree has a row that the state lacks; then no key is known, only its hash.
   * `unreadable`: the store gives no rows at all, for `reason`.
   */
  readonly kind: 'changed' | 'missing' | 'added' | 'unreadable';
  readonly reason?: string;
  /** Hexadecimal: SHA-256 of the state key. */
  readonly keyHash: string;
  /** Base64 of the state key. */
  readonly key?: string;
  readonly version?: number;
  /** Base64, at most the first 1,000 bytes. */
  readonly value?: string;
  /** Hexadecimal: what the row in the state hashes to, and what the tree has of it. */
  readonly found?: string;
  readonly expected?: string;
}

/** How far a scrub has come. */
export interface ScrubProgress {
  /** Times that all rows were compared. */
  readonly passes: number;
  /** Rows compared since the start. */
  readonly rows: number;
  /** The first damage found; nothing is compared any more then. */
  readonly damage?: RowDamage;
}

/** A row that was not what the tree had at `covered`: damaged, or only a little older or newer. */
interface Suspect {
  readonly key: string;
  readonly covered: Position;
  readonly pending: readonly Position[];
  readonly expected: Buffer | undefined;
}

const seenBitsPerRow = 8;
/** Words of a key hash that choose its bit, another one in every pass: the first leads to its bucket. */
const seenWords = [1, 2, 3, 4, 5, 6, 7];
const bucketsPerStep = 2_000;

/**
 * Compares the rows that a node serves with its state tree, round and round: the tree follows from
 * the log alone and its root is compared with other nodes', so a row that changed on the disk, or in
 * memory before it was written there, is found. Synchronous; the caller chooses the pace.
 *
 * State and tree are never at the same position. A row that differs is a suspect until the state
 * has come to where the tree was, bulk updates included: if its version is older than that and it still differs, it is
 * damaged. A row that the tree has and two whole rounds did not meet is missing. So there is no false
 * alarm, whatever is written meanwhile; a missing row may take some rounds.
 */
export class Scrub {
  readonly #reader: StateReader;
  readonly #reference: () => ScrubReference;
  #suspects: Suspect[] = [];
  #cursor = '';
  #phase: 'rows' | 'level' | 'leaves' = 'rows';
  /** The round may begin once the state has come so far. */
  #from: Position | undefined;
  /** The tree must have come so far before its leaves are looked at. */
  #until: Position = 0 as Position;
  #bucket = 0;
  #seen: Uint8Array;
  #passes = 0;
  #rows = 0;
  /** Leaves that the last round did not meet: key hash and content hash as one text. */
  #unmet = new Set<string>();
  #stillUnmet = new Set<string>();
  #damage: RowDamage | undefined;

  constructor(reader: StateReader, reference: () => ScrubReference) {
    this.#reader = reader;
    this.#reference = reference;
    this.#seen = this.#emptySeen();
  }

  get progress(): ScrubProgress {
    return {
      passes: this.#passes,
      rows: this.#rows,
      ...(this.#damage === undefined ? {} : { damage: this.#damage }),
    };
  }

  /** Compares at most so many more rows. */
  step(rowsMax: number): void {
    if (this.#damage !== undefined) return;
    this.#reader.refresh();
    const stateAt = positionOf(this.#reader.nextAddress(), 0);
    this.#judgeSuspects(stateAt);
    if (this.#phase === 'rows') this.#stepRows(rowsMax, stateAt);
    else if (this.#phase === 'level') this.#stepLevel();
    else this.#stepLeaves();
  }

  #stepRows(rowsMax: number, stateAt: Position): void {
    this.#from ??= this.#reference().covered;
    if (stateAt < this.#from) return;
    // More are looked at when those there are have been judged.
    const room = limits.scrubSuspectsMax - this.#suspects.length;
    const most = Math.min(rowsMax, room);
    if (most <= 0) return;
    const rows = this.#reader.range(this.#cursor, '', most);
    for (const row of rows) this.#compare(row);
    this.#rows += rows.length;
    const last = rows.at(-1);
    if (last !== undefined && rows.length === most) {
      this.#cursor = `${last.key}\0`;
      return;
    }
    this.#phase = 'level';
    this.#until = stateAt;
  }

  /** Rows deleted in the state must be deleted in the tree before it is asked what it has. */
  #stepLevel(): void {
    if (this.#reference().covered < this.#until) return;
    this.#phase = 'leaves';
    this.#bucket = 0;
    this.#stillUnmet = new Set();
  }

  #stepLeaves(): void {
    const { tree } = this.#reference();
    const end = Math.min(tree.buckets, this.#bucket + bucketsPerStep);
    for (; this.#bucket < end; this.#bucket++) {
      const leaves = tree.bucket(this.#bucket);
      for (let at = 0; at < leaves.length; at += 64) {
        const leaf = leaves.subarray(at, at + 64);
        if (this.#wasSeen(leaf)) continue;
        const text = leaf.toString('latin1');
        if (this.#unmet.has(text)) {
          this.#damage = {
            kind: 'missing',
            keyHash: leaf.toString('hex', 0, 32),
            expected: leaf.toString('hex', 32, 64),
          };
          return;
        }
        if (this.#stillUnmet.size < limits.scrubSuspectsMax) this.#stillUnmet.add(text);
      }
    }
    if (this.#bucket < tree.buckets) return;
    this.#unmet = this.#stillUnmet;
    this.#passes++;
    this.#phase = 'rows';
    this.#cursor = '';
    this.#from = undefined;
    this.#seen = this.#emptySeen();
  }

  #compare(row: Row): void {
    const { tree, covered, pending } = this.#reference();
    const keyHash = stateKeyHash(row.key);
    this.#see(keyHash);
    if (row.version >= covered || pending.includes(row.version)) return;
    const expected = tree.contentHash(keyHash);
    if (expected?.equals(rowContentHash(row.version, row.value)) === true) return;
    this.#suspects.push({ key: row.key, covered, pending, expected });
  }

  #judgeSuspects(stateAt: Position): void {
    if (this.#suspects.length === 0) return;
    const updating = this.#reader.updating();
    const open: Suspect[] = [];
    for (const suspect of this.#suspects) {
      const { covered, pending } = suspect;
      // A node that lost its state makes it anew, and keeps the rows with which its tree goes on.
      const lacks = updating.some((one) => one < covered && !pending.includes(one));
      if (stateAt < covered || lacks) open.push(suspect);
      else this.#judge(suspect);
      if (this.#damage !== undefined) return;
    }
    this.#suspects = open;
  }

  /** The state has passed the place where the tree was: nothing excuses an old row any more. */
  #judge({ key, covered, pending, expected }: Suspect): void {
    const row = this.#reader.get(key);
    if (row === undefined || row.version >= covered || pending.includes(row.version)) return;
    const found = rowContentHash(row.version, row.value);
    if (expected?.equals(found) === true) return;
    this.#damage = {
      kind: expected === undefined ? 'added' : 'changed',
      keyHash: stateKeyHash(key).toString('hex'),
      key: Buffer.from(key, 'latin1').toString('base64'),
      version: row.version,
      value: Buffer.from(row.value.slice(0, 1_000), 'latin1').toString('base64'),
      found: found.toString('hex'),
      ...(expected === undefined ? {} : { expected: expected.toString('hex') }),
    };
  }

  #emptySeen(): Uint8Array {
    const bits = Math.max(8_192, this.#reference().tree.rows * seenBitsPerRow);
    return new Uint8Array(2 ** Math.ceil(Math.log2(bits / 8)));
  }

  #see(keyHash: Buffer): void {
    const bit = this.#seenBit(keyHash);
    const at = Math.floor(bit / 8);
    this.#seen[at] = (this.#seen[at] as number) | (1 << (bit % 8));
  }

  #wasSeen(leaf: Buffer): boolean {
    const bit = this.#seenBit(leaf);
    return ((this.#seen[Math.floor(bit / 8)] as number) & (1 << (bit % 8))) !== 0;
  }

  #seenBit(hash: Buffer): number {
    const word = seenWords[this.#passes % seenWords.length] as number;
    return hash.readUInt32BE(4 * word) % (this.#seen.length * 8);
  }
}
