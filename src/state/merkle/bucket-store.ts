import { open, type RootDatabase } from 'lmdb';
import { asBuffer, DaybookError } from '../../base/index.ts';
import { StateTree } from './tree.ts';

/**
 * Keeps the buckets of a {@link StateTree} between runs, together with its owner's note of where in
 * the log it stands. What is saved can always be rebuilt from the log or a snapshot.
 */
export interface BucketStore {
  /**
   * Saves the buckets that changed since the last save, the root and the note, all or nothing;
   * durable when it resolves.
   */
  save(tree: StateTree, note: Uint8Array): Promise<void>;
  /**
   * The tree and note saved last; `undefined` when nothing was.
   *
   * @throws {DaybookError} `STATE_DAMAGED` when the buckets do not hash to the saved root: remove
   *   the directory and rebuild.
   */
  load(): Promise<{ tree: StateTree; note: Buffer } | undefined>;
  /** Forgets everything: before a tree is built anew. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** A store that forgets when it is dropped: for tests and the simulator. */
export class MemoryBucketStore implements BucketStore {
  #saved: Saved | undefined;

  async save(tree: StateTree, note: Uint8Array): Promise<void> {
    const root = tree.root();
    const buckets = new Map(this.#saved?.buckets);
    for (const number of tree.dirtyBuckets()) {
      const leaves = tree.bucket(number);
      if (leaves.length === 0) buckets.delete(number);
      else buckets.set(number, leaves);
    }
    tree.clean();
    this.#saved = { bucketBits: tree.bucketBits, root, note: Buffer.from(note), buckets };
  }

  async load(): Promise<{ tree: StateTree; note: Buffer } | undefined> {
    const saved = this.#saved;
    if (saved === undefined) return undefined;
    return { tree: restore(saved, saved.buckets), note: saved.note };
  }

  async clear(): Promise<void> {
    this.#saved = undefined;
  }

  async close(): Promise<void> {}
}

interface Saved {
  readonly bucketBits: number;
  readonly root: Buffer;
  readonly note: Buffer;
  readonly buckets: ReadonlyMap<number, Buffer>;
}

/** Row 0 of the database holds root, bucket bits and note; row n + 1 holds bucket n. */
class LmdbBucketStore implements BucketStore {
  readonly #database: RootDatabase<Buffer, number>;

  constructor(directory: string) {
    this.#database = open<Buffer, number>({
      path: directory,
      encoding: 'binary',
      keyEncoding: 'uint32',
      compression: false,
    });
  }

  async save(tree: StateTree, note: Uint8Array): Promise<void> {
    const head = Buffer.concat([tree.root(), Buffer.of(tree.bucketBits), note]);
    const database = this.#database;
    // The tree may change as soon as this function returns its promise, so the copies are made now.
    const done = database.batch(() => {
      for (const number of tree.dirtyBuckets()) {
        const leaves = tree.bucket(number);
        // What becomes of single writes is what becomes of the batch.
        if (leaves.length === 0) void database.remove(number + 1);
        else void database.put(number + 1, leaves);
      }
      void database.put(0, head);
    });
    tree.clean();
    await done;
    await database.flushed;
  }

  async load(): Promise<{ tree: StateTree; note: Buffer } | undefined> {
    const head = this.#database.getBinary(0);
    if (head === undefined) return undefined;
    const rows = this.#database.getRange({ start: 1 });
    const buckets = rows.map(({ key, value }) => [key - 1, asBuffer(value)] as const);
    const tree = restore(
      { root: head.subarray(0, 32), bucketBits: head[32] as number },
      buckets as Iterable<readonly [number, Uint8Array]>,
    );
    return { tree, note: Buffer.from(head.subarray(33)) };
  }

  async clear(): Promise<void> {
    // After `clearAsync` a large commit damages the file for the next one (lmdb 3.5).
    const database = this.#database;
    const keys = [...database.getKeys()];
    await database.batch(() => {
      for (const key of keys) void database.remove(key);
    });
    await database.flushed;
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}

/** Opens (and creates) the bucket store in a directory of its own. */
export function openBucketStore(directory: string): BucketStore {
  return new LmdbBucketStore(directory);
}

function restore(
  saved: { readonly root: Uint8Array; readonly bucketBits: number },
  buckets: Iterable<readonly [number, Uint8Array]>,
): StateTree {
  const tree = new StateTree({ bucketBits: saved.bucketBits });
  tree.load(buckets);
  if (!tree.root().equals(saved.root)) {
    throw new DaybookError('STATE_DAMAGED', 'the saved state tree does not hash to its root', {
      details: { what: 'state tree' },
    });
  }
  return tree;
}
