import { isDaybookError } from '../src/base/index.ts';
import type { LogEntry, SharedLog, Token } from '../src/log/index.ts';
import { type Address, positionOf } from '../src/model/index.ts';
import { type Replica, replayedBefore } from '../src/replica/index.ts';
import type { FollowerIntroduction } from '../src/replication/index.ts';
import { absent, DecodedGroup } from '../src/sequencer/index.ts';
import type { RecordedUpdate } from '../src/state/index.ts';
import type { Cluster } from './cluster.ts';
import { type Mutant, plain } from './mutant.ts';

/** The bugs that the checkers must find. */
export const mutants: readonly Mutant[] = [
  {
    name: 'skip-the-fsync',
    seedsMax: 5,
    prepare: ({ logMachine }) => {
      logMachine.disk.faults.skipSync = true;
    },
  },
  {
    name: 'answer-before-replay',
    seedsMax: 5,
    nodeLog: (log, sleep) => ({
      ...plain(log),
      follow: async function* (from, signal) {
        for await (const run of log.follow(from, signal)) {
          await sleep(2000);
          yield run;
        }
      },
    }),
    executorReplica: (replica, log) => {
      const eager = async (listener: Parameters<Replica['onApplied']>[0]): Promise<void> => {
        for (let address = replica.nextAddress as number; ; address++) {
          const entry = await patientRead(log, address as Address, replica);
          listener([replayedBefore(entry, replica.logTimeMs, undefined)]);
        }
      };
      return new Proxy(replica, {
        get: (target, name) => {
          if (name === 'onApplied') {
            return (listener: Parameters<Replica['onApplied']>[0]) => {
              eager(listener).catch(() => undefined);
              return () => undefined;
            };
          }
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    },
  },
  {
    name: 'forget-a-fill',
    seedsMax: 20,
    needs: ['crashes', 'network'],
    nodeLog: (log) => ({ ...plain(log), fill: async () => undefined }),
  },
  {
    name: 'equality-check-on-filled-holes',
    seedsMax: 20,
    needs: ['network', 'crashes'],
    sequencer: (sequencer, cluster) => {
      const granted = grantedVersions.get(cluster) ?? { epoch: 0, versions: new Map() };
      grantedVersions.set(cluster, granted);
      return {
        request: async (group) => {
          const grant = await sequencer.request(group);
          const { token } = grant;
          if (token === undefined) return grant;
          if (token.epoch > granted.epoch) {
            granted.epoch = token.epoch;
            granted.versions.clear();
          }
          const start = positionOf(token.address, 0);
          const decoded = new DecodedGroup();
          decoded.read(group, start);
          const { records, rowKeys, rowVersions, writes } = decoded;
          // The version read must be the one granted last, though that may have become a hole.
          const other = records.map(({ readsFrom, readsTo }) => {
            for (let at = readsFrom; at < readsTo; at++) {
              const version = rowVersions[at] as number;
              const last = granted.versions.get(rowKeys[at] as string);
              const isKnown = version !== absent && version < start && last !== undefined;
              if (isKnown && last !== version) return rowKeys[at];
            }
            return undefined;
          });
          if (other.some((key) => key !== undefined)) {
            return { token: undefined, conflicts: records.map((_, at) => other[at] ?? '') };
          }
          records.forEach(({ writesFrom, writesTo }, at) => {
            if (grant.conflicts[at] !== undefined) return;
            const version = positionOf(token.address, at);
            for (const key of writes.slice(writesFrom, writesTo))
              granted.versions.set(key, version);
          });
          return grant;
        },
      };
    },
  },
  {
    name: 'take-a-refused-write-for-done',
    seedsMax: 40,
    needs: ['network', 'pauses', 'sequencers'],
    log: (log) => ({
      ...plain(log),
      write: async (token, bytes) => {
        try {
          await log.write(token, bytes);
        } catch (error) {
          if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN')) throw error;
        }
      },
    }),
  },
  {
    name: 'reuse-a-token-and-overwrite',
    seedsMax: 10,
    log: (log, cluster) => overlaid(log, cluster, 'LOG_ADDRESS_TAKEN'),
    sequencer: (sequencer, { world }) => {
      let last: Token | undefined;
      return {
        request: async (group) => {
          const grant = await sequencer.request(group);
          if (grant.token === undefined) return grant;
          const reused = last !== undefined && world.chance.happens(0.05) ? last : undefined;
          last = grant.token;
          return { ...grant, token: reused ?? grant.token };
        },
      };
    },
  },
  {
    name: 'drop-the-epoch-check',
    seedsMax: 40,
    needs: ['sequencers'],
    log: (log, cluster) => overlaid(log, cluster, 'LOG_EPOCH_SEALED'),
  },
  {
    name: 'skip-an-entry',
    seedsMax: 5,
    nodeLog: (log) => ({
      ...plain(log),
      follow: async function* (from, signal) {
        for await (const run of log.follow(from, signal)) {
          const kept = run.filter(({ address }) => address % 50 !== 49);
          if (kept.length > 0) yield kept;
        }
      },
    }),
  },
  {
    name: 'lose-a-write',
    seedsMax: 5,
    state: (state, node) => {
      const apply = state.apply.bind(state);
      state.apply = (change) => {
        const lost = node === 'node0' && change.address % 20 === 19;
        apply(lost ? { ...change, writes: change.writes.slice(1) } : change);
      };
    },
  },
  {
    name: 'apply-a-bulk-update-twice',
    seedsMax: 20,
    state: (state, node) => {
      const apply = state.apply.bind(state);
      state.apply = (change) => {
        if (node !== 'node0' || change.bulkUpdates === undefined) apply(change);
        else apply({ ...change, bulkUpdates: change.bulkUpdates.map(doubled) });
      };
    },
  },
  {
    name: 'acknowledge-before-applied',
    seedsMax: 10,
    feed: (feed) => {
      let delivered: number | undefined;
      const early = (introduction: FollowerIntroduction): FollowerIntroduction => ({
        ...introduction,
        applied: delivered ?? introduction.applied,
      });
      return {
        pull: async (introduction, ...rest) => {
          const page = await feed.pull(early(introduction), ...rest);
          delivered = page.next;
          return page;
        },
        scan: (introduction, ...rest) => feed.scan(early(introduction), ...rest),
        applied: (introduction, ...rest) => feed.applied(early(introduction), ...rest),
        close: () => feed.close(),
      };
    },
  },
  {
    name: 'lose-a-change-on-the-way-to-a-sink',
    seedsMax: 10,
    feed: (feed) => {
      let pages = 0;
      return {
        pull: async (...question) => {
          const page = await feed.pull(...question);
          return ++pages % 5 === 0 ? { ...page, changes: page.changes.slice(1) } : page;
        },
        scan: (...question) => feed.scan(...question),
        applied: (...question) => feed.applied(...question),
        close: () => feed.close(),
      };
    },
  },
  {
    name: 'serve-before-caught-up',
    seedsMax: 20,
    needs: ['crashes', 'power'],
    servesEarly: true,
    // As behind a long log: the beginning takes its time.
    nodeLog: (log, sleep) => ({
      ...plain(log),
      follow: async function* (from, signal) {
        for await (const run of log.follow(from, signal)) {
          if (run.length <= 5) yield run;
          else {
            for (const entry of run) {
              yield [entry];
              await sleep(20_000);
            }
          }
        }
      },
    }),
  },
  {
    name: 'forget-transaction-ids',
    seedsMax: 20,
    needs: ['network', 'pauses', 'crashes'],
    state: (state) => {
      state.transaction = () => undefined;
      state.isCommitted = () => false;
    },
  },
];

function doubled(update: RecordedUpdate): RecordedUpdate {
  const parts = update.parts.map((part) => {
    const { $inc } = JSON.parse(part.update) as { $inc: { n: number } };
    return { ...part, update: JSON.stringify({ $inc: { n: 2 * $inc.n } }) };
  });
  return { ...update, parts };
}

/** What sequencers of a cluster granted last, by key. */
const grantedVersions = new WeakMap<
  Cluster,
  { epoch: number; readonly versions: Map<string, number> }
>();

/** Outlives the log's process, as a file would. */
const shownInstead = new WeakMap<Cluster, Map<number, LogEntry>>();

/** A log that takes what it ought to refuse with `code`, and shows it in the place of the other. */
function overlaid(
  log: SharedLog,
  cluster: Cluster,
  code: 'LOG_ADDRESS_TAKEN' | 'LOG_EPOCH_SEALED',
): SharedLog {
  const wrong = shownInstead.get(cluster) ?? new Map<number, LogEntry>();
  shownInstead.set(cluster, wrong);
  const shown = (entry: LogEntry): LogEntry => wrong.get(entry.address) ?? entry;
  return {
    ...plain(log),
    write: async (token, bytes) => {
      try {
        await log.write(token, bytes);
      } catch (error) {
        if (!isDaybookError(error, code)) throw error;
        const taken = code === 'LOG_ADDRESS_TAKEN' || (await stands(log, token.address));
        if (taken && code !== 'LOG_ADDRESS_TAKEN') throw error;
        wrong.set(token.address, { ...token, kind: 'data', bytes });
        if (!taken) await log.write({ epoch: await log.epoch(), address: token.address }, bytes);
      }
    },
    read: async (address) => shown(await log.read(address)),
    follow: async function* (from, signal) {
      for await (const run of log.follow(from, signal)) yield run.map(shown);
    },
  };
}

function stands(log: SharedLog, address: Address): Promise<boolean> {
  return log.read(address).then(
    () => true,
    (error: unknown) => !isDaybookError(error, 'LOG_NOT_WRITTEN'),
  );
}

/** The entry at an address as soon as it is there, without waiting for the replica. */
async function patientRead(log: SharedLog, address: Address, replica: Replica): Promise<LogEntry> {
  for (;;) {
    try {
      return await log.read(address);
    } catch (error) {
      if (!isDaybookError(error, 'LOG_NOT_WRITTEN') || replica.alarm !== undefined) throw error;
    }
  }
}
