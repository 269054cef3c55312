import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asPosition, sha256, stateKey } from '../src/model/index.ts';
import { openBucketStore, StateTree, type StateWrite } from '../src/state/index.ts';

/** Settings of {@link merkleBench}. */
export interface MerkleBenchSettings {
  readonly keys: number;
  readonly updates: number;
  /** Writes per root. */
  readonly group: number;
  readonly bucketBits: number;
}

export const merkleBenchDefaults: MerkleBenchSettings = {
  keys: 1_000_000,
  updates: 400_000,
  group: 2000,
  bucketBits: 18,
};

/** The small mode, for the tests. */
export const merkleBenchSmall: MerkleBenchSettings = {
  keys: 5000,
  updates: 4000,
  group: 1000,
  bucketBits: 10,
};

/** CPU of the process in microseconds per key, so that other load on the machine counts little. */
export interface MerkleBenchResult extends MerkleBenchSettings {
  readonly loadUs: number;
  readonly updateUs: number;
  /** The reference: one SHA-256 of 300 bytes. */
  readonly sha256Us: number;
  readonly updateRatio: number;
  readonly keysPerSecond: number;
  readonly saveUs: number;
  readonly reopenMs: number;
  readonly proofUs: number;
  readonly bytesPerKey: number;
}

/** Updates of random keys in a large state tree, with a root after each group. */
export async function merkleBench(settings: MerkleBenchSettings): Promise<MerkleBenchResult> {
  const { keys, updates, group, bucketBits } = settings;
  const directory = await mkdtemp(join(tmpdir(), 'daybook-bench-'));
  try {
    let tree = new StateTree({ bucketBits });
    const write = (at: number, round: number): StateWrite => ({
      key: stateKey('bank', `account-${String(at).padStart(8, '0')}`),
      value: `{"owner":"somebody","balance":${at + round}}`,
      version: asPosition(round * 4096 + (at % 4096)),
    });
    const loading = cpuUs();
    for (let at = 0; at < keys; at += 10_000) {
      const count = Math.min(10_000, keys - at);
      tree.update(Array.from({ length: count }, (_, next) => write(at + next, 0)));
      tree.root();
    }
    const loadUs = (cpuUs() - loading) / keys;

    const groups = Array.from({ length: Math.ceil(updates / group) }, (_, round) =>
      Array.from({ length: group }, () => write(Math.floor(Math.random() * keys), round + 1)),
    );
    const updating = cpuUs();
    for (const writes of groups) {
      tree.update(writes);
      tree.root();
    }
    const updateUs = (cpuUs() - updating) / (groups.length * group);

    const bytes = Buffer.alloc(300, 7);
    const hashing = cpuUs();
    for (let at = 0; at < 200_000; at++) sha256(bytes);
    const sha256Us = (cpuUs() - hashing) / 200_000;

    const proving = cpuUs();
    for (let at = 0; at < 2000; at++) tree.path(write(at % keys, 0).key);
    const proofUs = (cpuUs() - proving) / 2000;

    const bytesPerKey = tree.bytes / keys;
    let store = openBucketStore(directory);
    const saving = cpuUs();
    await store.save(tree, Buffer.alloc(0));
    const saveUs = (cpuUs() - saving) / keys;
    await store.close();
    const root = tree.root();
    store = openBucketStore(directory);
    const reopening = performance.now();
    tree = (await store.load())?.tree ?? tree;
    const reopenMs = performance.now() - reopening;
    await store.close();
    if (!tree.root().equals(root)) throw new Error('the reopened tree has another root');
    return {
      ...settings,
      loadUs: round(loadUs),
      updateUs: round(updateUs),
      sha256Us: round(sha256Us),
      updateRatio: round(updateUs / sha256Us),
      keysPerSecond: Math.round(1e6 / updateUs),
      saveUs: round(saveUs),
      reopenMs: round(reopenMs),
      proofUs: round(proofUs),
      bytesPerKey: round(bytesPerKey),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
