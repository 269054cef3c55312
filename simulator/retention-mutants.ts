import type { ByteWriter } from '../src/base/index.ts';
import { decodeNote, encodeNote } from '../src/blocks/chain-note.ts';
import { asAddress, asPosition, positionOf } from '../src/model/index.ts';
import type { Replica } from '../src/replica/index.ts';
import type { State, StoreSnapshot } from '../src/state/index.ts';
import { type Mutant, plain } from './mutant.ts';

type SnapshotParts = Awaited<ReturnType<State['snapshotParts']>>;

const world = { log: 'embedded', workload: 'mixed', retention: true } as const;

/** Bugs that show where the log is trimmed and nodes come back from snapshots. */
export const retentionMutants: readonly Mutant[] = [
  {
    name: 'trim-what-nobody-holds',
    seedsMax: 30,
    shows: 'liveness',
    world,
    needs: ['power'],
    nodeLog: (log) => ({
      ...plain(log),
      trim: async (before) => await log.trim(asAddress(Math.max(before, (await log.tail()) - 2))),
    }),
  },
  {
    name: 'leave-transaction-ids-out-of-a-snapshot',
    seedsMax: 30,
    shows: 'correctness',
    world,
    needs: ['network', 'power', 'pauses'],
    state: (state) => {
      changeSnapshots(state, (parts) => {
        const transactions = {
          window: () => ({ ...parts.transactions.window(), transactions: none }),
        };
        return { ...parts, transactions: transactions as unknown as SnapshotParts['transactions'] };
      });
    },
  },
  {
    name: 'take-a-snapshot-for-a-later-one',
    seedsMax: 10,
    world,
    needs: ['power'],
    state: (state) => {
      changeViews(state, ({ meta, ...view }) => {
        const nextAddress = asAddress((meta?.nextAddress ?? 0) + 1);
        return { ...view, meta: meta && { ...meta, nextAddress } };
      });
    },
  },
  {
    name: 'lose-a-row-of-a-snapshot',
    seedsMax: 10,
    shows: 'correctness',
    world,
    needs: ['power'],
    state: (state) => {
      changeViews(state, (view) => ({
        meta: view.meta,
        // A row of every page; the last one says where the next page begins.
        page: (start, limit) => view.page(start, limit).filter((_, at) => at !== 7),
        release: () => view.release(),
      }));
    },
  },
  {
    // Whose blocks end before it: where all do so, nobody makes those between.
    name: 'begin-with-the-newest-snapshot',
    seedsMax: 30,
    shows: 'liveness',
    world,
    needs: ['power'],
    trustsNewestSnapshot: true,
  },
  {
    name: 'trim-for-blocks-that-are-not-saved',
    seedsMax: 30,
    world,
    needs: ['power'],
    blocks: (backend) => ({ ...backend, save: async (wanted) => wanted }),
  },
  {
    // Once their leases have ended nobody knows that there were such nodes.
    name: 'know-makers-by-their-leases',
    seedsMax: 30,
    shows: 'liveness',
    world,
    needs: ['clocks'],
    makers: (makers) => ({ ...makers, names: async () => [] }),
  },
  {
    name: 'forget-the-open-block',
    seedsMax: 20,
    shows: 'correctness',
    world,
    needs: ['crashes', 'power'],
    buckets: (buckets) => ({
      save: (tree, note) => buckets.save(tree, note),
      load: async () => {
        const saved = await buckets.load();
        if (saved === undefined) return undefined;
        const { bulk, ...note } = decodeNote(saved.note);
        const pending = { encodePending: (writer: ByteWriter) => bulk.encode(writer) };
        return { ...saved, note: encodeNote({ ...note, unmade: [] }, pending) };
      },
      clear: () => buckets.clear(),
      close: () => buckets.close(),
    }),
  },
  {
    name: 'pass-over-what-a-follower-lacks',
    seedsMax: 20,
    world,
    needs: ['crashes', 'power'],
    followersReplica: (replica, log) =>
      new Proxy(replica, {
        get: (target, name) => {
          if (name === 'readApplied') return readAfterTrim(target, () => log.start());
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      }),
  },
];

async function* none(): AsyncGenerator<never> {}

function changeSnapshots(state: State, change: (parts: SnapshotParts) => SnapshotParts): void {
  const snapshotParts = state.snapshotParts.bind(state);
  state.snapshotParts = async () => change(await snapshotParts());
}

function changeViews(state: State, change: (view: StoreSnapshot) => StoreSnapshot): void {
  changeSnapshots(state, (parts) => {
    const store = { snapshot: () => change(parts.store.snapshot()) };
    return { ...parts, store: store as unknown as SnapshotParts['store'] };
  });
}

/** Begins where the log begins now, wherever it was asked to. */
function readAfterTrim(replica: Replica, logStart: () => Promise<number>): Replica['readApplied'] {
  return async function* readApplied(from, signal) {
    const start = asAddress(Math.max(replica.state.startAddress, await logStart()));
    const first = positionOf(start, 0);
    yield* replica.readApplied(asPosition(Math.max(from, first)), signal);
  };
}
