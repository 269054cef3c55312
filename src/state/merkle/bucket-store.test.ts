import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { asPosition } from '../../model/index.ts';
import { MemoryBucketStore, openBucketStore } from './bucket-store.ts';
import { StateTree } from './tree.ts';

const directory = mkdtempSync(join(tmpdir(), 'daybook-buckets-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const row = (at: number, value: string | undefined) => ({
  key: `bank\0${at}`,
  value,
  version: asPosition(at),
});

describe.each(['memory', 'lmdb'])('the %s bucket store', (kind) => {
  test('gives back tree and note as last saved', async () => {
    const shared = new MemoryBucketStore();
    const openOne = () => (kind === 'memory' ? shared : openBucketStore(join(directory, 'a')));
    let store = openOne();
    expect(await store.load()).toBeUndefined();
    const tree = new StateTree({ bucketBits: 6 });
    for (let round = 0; round < 4; round++) {
      tree.update(Array.from({ length: 100 }, (_, at) => row(at * (round + 1), `${round}`)));
      tree.update([row(0, undefined), row(2, undefined)]);
      await store.save(tree, Buffer.from(`note ${round}`));
      const root = tree.root();
      tree.update([row(7, 'not saved')]);
      await store.close();
      store = openOne();
      const loaded = await store.load();
      expect(loaded?.note.toString()).toBe(`note ${round}`);
      expect(loaded?.tree.root()).toEqual(root);
    }
    await store.close();
  });

  test('takes a large tree, and then others, after it was cleared', async () => {
    const store =
      kind === 'memory' ? new MemoryBucketStore() : openBucketStore(join(directory, 'd'));
    await store.clear();
    const tree = new StateTree();
    tree.update(Array.from({ length: 21_000 }, (_, at) => row(at, 'a')));
    for (let round = 1; round <= 4; round++) {
      await store.save(tree, Buffer.alloc(1_000, round));
      tree.update(Array.from({ length: 500 }, (_, at) => row(round * 100_000 + at, 'b')));
    }
    await store.save(tree, Buffer.alloc(0));
    expect((await store.load())?.tree.root()).toEqual(tree.root());
    await store.clear();
    expect(await store.load()).toBeUndefined();
    await store.close();
  });

  test('forgets a bucket that lost its last row', async () => {
    const store =
      kind === 'memory' ? new MemoryBucketStore() : openBucketStore(join(directory, 'c'));
    const tree = new StateTree({ bucketBits: 4 });
    tree.update([row(1, 'a')]);
    await store.save(tree, Buffer.alloc(0));
    tree.update([row(1, undefined)]);
    await store.save(tree, Buffer.alloc(0));
    expect((await store.load())?.tree.root()).toEqual(new StateTree({ bucketBits: 4 }).root());
    await store.close();
  });
});

test('buckets that do not hash to the saved root are refused', async () => {
  const store = openBucketStore(join(directory, 'b'));
  const tree = new StateTree({ bucketBits: 6 });
  tree.update([row(1, 'a')]);
  await store.save(tree, Buffer.alloc(0));
  // A second tree with other rows, saved as if nothing but its own changes were new.
  const other = new StateTree({ bucketBits: 6 });
  other.update([row(2, 'b')]);
  await store.save(other, Buffer.alloc(0));
  await expect(store.load()).rejects.toMatchObject({ code: 'STATE_DAMAGED' });
  await store.close();
});
