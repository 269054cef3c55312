import { DaybookError } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import { unreadable } from './damaged-blocks.ts';
import { type HashReader, historyLevelStep } from './history-tree.ts';

const hashBytes = 32;
/** Levels 0, 8, 16, 24, 32, 40, 48: enough for 2^53 records. */
const levels = 7;

/** Opened again, the files are made from the blocks. */
export function damagedHistory(): DaybookError {
  return new DaybookError('STATE_DAMAGED', 'the history tree is damaged', {
    details: { what: 'history tree' },
  });
}

/**
 * The kept levels of the history tree: one flat file of hashes per level (`history-00`, …). They
 * follow from the blocks and can be rebuilt.
 */
export class HistoryFiles {
  readonly #files: readonly DiskFile[];
  /** Hashes per file. */
  readonly #counts: number[];

  private constructor(files: readonly DiskFile[], counts: number[]) {
    this.#files = files;
    this.#counts = counts;
  }

  static async open(disk: Disk, directory: string): Promise<HistoryFiles> {
    const files: DiskFile[] = [];
    const counts: number[] = [];
    for (let at = 0; at < levels; at++) {
      const name = `history-${String(at * historyLevelStep).padStart(2, '0')}`;
      const file = await disk.open(`${directory}/${name}`, { create: true });
      files.push(file);
      counts.push(Math.floor((await file.size()) / hashBytes));
    }
    return new HistoryFiles(files, counts);
  }

  /** Number of leaves whose hashes are here. */
  get size(): number {
    return this.#counts[0] as number;
  }

  /**
   * Cuts everything beyond the first `size` leaves.
   *
   * @returns false when less than that is here: start over from 0.
   */
  async truncate(size: number): Promise<boolean> {
    for (const [at, file] of this.#files.entries()) {
      const wanted = Math.floor(size / 2 ** (at * historyLevelStep));
      if ((this.#counts[at] as number) < wanted) return false;
      await file.truncate(wanted * hashBytes);
      this.#counts[at] = wanted;
    }
    return true;
  }

  /** Appends the hashes that a block completes. */
  async append(
    hashes: readonly { readonly level: number; readonly hash: Buffer }[],
  ): Promise<void> {
    const parts: Buffer[][] = this.#files.map(() => []);
    for (const { level, hash } of hashes) parts[level / historyLevelStep]?.push(hash);
    for (const [at, file] of this.#files.entries()) {
      const own = parts[at] as Buffer[];
      if (own.length === 0) continue;
      const count = this.#counts[at] as number;
      await file.write([Buffer.concat(own)], count * hashBytes);
      this.#counts[at] = count + own.length;
    }
  }

  /** See {@link HashReader}. */
  readonly read: HashReader = async (level, index, count) => {
    const file = this.#files[level / historyLevelStep];
    const bytes = Buffer.alloc(count * hashBytes);
    const got = (await file?.read(bytes, index * hashBytes).catch(unreadable)) ?? 0;
    if (got !== bytes.length) {
      throw damagedHistory();
    }
    return Array.from({ length: count }, (_, at) => {
      return bytes.subarray(at * hashBytes, (at + 1) * hashBytes);
    });
  };

  async sync(): Promise<void> {
    for (const file of this.#files) await file.sync();
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}
