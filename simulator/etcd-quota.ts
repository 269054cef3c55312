import { isDaybookError } from '../src/base/index.ts';
import type { CallName, Calls } from '../src/log/etcd/etcd-api.ts';
import type { Member, SharedLog } from '../src/log/index.ts';
import type { Cluster } from './cluster.ts';
import { plain } from './mutant.ts';
import type { Chance } from './random.ts';
import { makesSomePlain, type Retention } from './retention.ts';
import type { SimEtcdCluster } from './sim-etcd.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** How much space the members of etcd have, in worlds that run out of it. */
export interface EtcdQuota {
  /** Of every member's file. */
  readonly quotaBytes: number;
  /** What the nodes are told; more than there is in some worlds. */
  readonly toldBytes: number;
  /** Somebody else writes to the clusters, too: so many keys, of up to so many bytes. */
  readonly others: { readonly keys: number; readonly bytes: number } | undefined;
  /** Pause between two rounds of housekeeping. */
  readonly trimEveryMs: number;
  /** As in {@link EtcdSpace.nestedIsFree}. */
  readonly nestedIsFree: boolean;
  /** Numbers of its own. */
  readonly chance: Chance;
}

/** What an entry of these worlds takes for long, and what stands beside the entries. */
const entryBytes = 2_500;
const besideBytes = 112 * 1024;
const highRatio = 0.8;

/**
 * Draws how much there is: in any case room for what is kept, and as much again. Where the log waits for
 * nodes that are away, or for blocks that are mended, everybody knows how much, and nobody else writes: if all end at
 * the quota itself, none can be started, and only a person helps.
 */
export function drawQuota(chance: Chance, retention: Retention): EtcdQuota {
  const { log } = retention;
  const waits = makesSomePlain(retention) || (retention.chains?.rot ?? 'none') !== 'none';
  const isToldRightly = chance.happens(0.4) || waits;
  const othersWrite = chance.happens(0.6) && !waits;
  const others = othersWrite
    ? { keys: chance.between(4, 24), bytes: chance.between(1_000, 6_000) }
    : undefined;
  const keptBytes = 2 * log.entries * entryBytes + (others?.keys ?? 0) * (others?.bytes ?? 0);
  const roomBytes = besideBytes + keptBytes * (1 + chance.number());
  const quotaBytes = Math.ceil(roomBytes / highRatio);
  return {
    quotaBytes,
    toldBytes: isToldRightly ? quotaBytes : chance.pick([2, 4, 1000]) * quotaBytes,
    others,
    // Seldom enough that the log fills up meanwhile.
    trimEveryMs: chance.between(50, 1_200),
    nestedIsFree: chance.happens(0.6),
    chance,
  };
}

/** The key that stands while entries may be put, as `src/log/etcd/keys.ts` names it. */
const gateKey = 'daybook/e.';

/** Makes the clusters of a world short of space, and looks at what becomes of it. */
export class EtcdShortage {
  readonly #cluster: Cluster;
  readonly #clusters: readonly SimEtcdCluster[];
  readonly #quota: EtcdQuota;
  readonly #process: SimProcess;
  #healed = false;
  #over = false;
  /** Whose trims are under way. */
  readonly #trimming = new Set<SimProcess>();

  constructor(cluster: Cluster, clusters: readonly SimEtcdCluster[], quota: EtcdQuota) {
    this.#cluster = cluster;
    this.#clusters = clusters;
    this.#quota = quota;
    this.#process = cluster.world.spawn('others', 'others');
    for (const { space } of clusters) {
      space.quotaBytes = quota.quotaBytes;
      space.nestedIsFree = quota.nestedIsFree;
    }
    const { quotaBytes, toldBytes, others } = quota;
    cluster.world.note(
      `etcd has ${quotaBytes} bytes, the nodes know of ${toldBytes}${others ? ', others write' : ''}`,
    );
  }

  /** From now on things go wrong. */
  start(): void {
    for (const cluster of this.#clusters) {
      if (this.#quota.others !== undefined) this.#write(cluster);
    }
    this.#breakDefragmentation();
  }

  /** Others take away what is theirs; nobody lifts the alarm for the log. */
  heal(): void {
    this.#healed = true;
    if (this.#quota.others === undefined) return;
    for (const cluster of this.#clusters) this.#clear(cluster);
  }

  /**
   * Nobody trims any more: from now on the log is compared as it is.
   *
   * @throws {SimulationFailure}
   */
  async check(): Promise<void> {
    this.#over = true;
    const { world } = this.#cluster;
    const isUnderWay = (): boolean => [...this.#trimming].some(({ alive }) => alive);
    while (isUnderWay()) await world.sleep(undefined, 10_000);
    const { toldBytes, quotaBytes, others } = this.#quota;
    const { coverage } = world;
    const isKept = toldBytes === quotaBytes && others === undefined;
    if (isKept && coverage['etcd: no space'] !== undefined) {
      throw new SimulationFailure('correctness', 'the quota was reached though all knew it');
    }
  }

  /** Looks at what a node asks a member for. */
  watched(process: SimProcess, member: Member): Member {
    return {
      ...member,
      call: async (name, request, options) => {
        const response = await member.call(name, request, options);
        this.#saw(process, name, request, response);
        return response;
      },
    };
  }

  /** A node's log: whoever is refused is told what for. */
  told(process: SimProcess, log: SharedLog): SharedLog {
    const { world } = this.#cluster;
    return {
      ...plain(log),
      trim: async (before) => {
        if (this.#over) return;
        this.#trimming.add(process);
        await log.trim(before).finally(() => this.#trimming.delete(process));
      },
      write: async (token, bytes) => {
        try {
          await log.write(token, bytes);
        } catch (error) {
          if (isDaybookError(error, 'OVERLOADED')) {
            const limit = String(error.details?.limit);
            if (limit === 'logSpaceBytes') world.happened('log: OVERLOADED for space');
            else if (limit !== 'logWritesInFlightMax') {
              const message = `the log refuses an entry for want of “${limit}”`;
              world.fail(new SimulationFailure('correctness', message, error));
            }
          }
          throw error;
        }
      },
    };
  }

  #saw<Name extends CallName>(
    process: SimProcess,
    name: Name,
    request: Calls[Name]['request'],
    response: Calls[Name]['response'],
  ): void {
    const { world } = this.#cluster;
    if (name === 'deleteRange') {
      const { key } = request as Calls['deleteRange']['request'];
      if (key.toString('latin1') !== gateKey) return;
      world.happened('etcd: the gate is shut');
      world.note(`${process.name} has shut the gate`);
      this.#strike(process);
    } else if (name === 'txn') {
      const { success, compare } = request as Calls['txn']['request'];
      const [first] = compare;
      const puts = success.some(({ request_put: put }) => put?.key.toString('latin1') === gateKey);
      const reopens = puts && first?.key.toString('latin1') === gateKey;
      if (!reopens || !(response as Calls['txn']['response']).succeeded) return;
      world.happened('etcd: the gate is put back');
      world.note(`${process.name} has put the gate back`);
    }
  }

  /** Whoever has shut the gate dies before it is open again, or etcd changes its mind about leaders. */
  #strike(process: SimProcess): void {
    if (this.#healed) return;
    const { chance } = this.#quota;
    const { world, nodes } = this.#cluster;
    if (chance.happens(0.3)) for (const cluster of this.#clusters) cluster.members.changeLeader();
    if (!chance.happens(0.4)) return;
    world.after(process, chance.between(0, 300_000), 'in the gate', () => {
      const node = nodes.find((each) => each.process === process);
      if (this.#healed || node === undefined) return;
      world.happened('etcd: whoever shut the gate is killed');
      node.crash(false);
    });
  }

  #breakDefragmentation(): void {
    const { chance } = this.#quota;
    this.#cluster.world.after(undefined, chance.between(20_000, 300_000), 'defragment', () => {
      if (this.#healed) return;
      const { faults } = chance.pick(this.#clusters).members;
      faults.defragmentFails = chance.pick([0, 0.3, 1]);
      if (chance.happens(0.5))
        for (const cluster of this.#clusters)
          cluster.members.killWhoDefragments(chance.between(100_000, 1_000_000));
      this.#breakDefragmentation();
    });
  }

  #write(cluster: SimEtcdCluster): void {
    const { chance, others } = this.#quota;
    if (others === undefined) return;
    this.#cluster.world.after(this.#process, chance.between(2_000, 40_000), 'others', () => {
      if (this.#healed) return;
      const key = Buffer.from(`others/${chance.below(others.keys)}`);
      const value = Buffer.alloc(chance.between(others.bytes / 2, others.bytes));
      cluster.others({ request_put: { key, value } }, () => this.#write(cluster));
    });
  }

  #clear(cluster: SimEtcdCluster): void {
    const key = Buffer.from('others/');
    const range = { request_delete_range: { key, range_end: Buffer.from('others0') } };
    cluster.others(range, (isDone) => {
      if (isDone) cluster.compact();
      else this.#clear(cluster);
    });
  }
}
