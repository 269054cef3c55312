import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import type { Cluster } from '../etcd/cluster.ts';
import { built, root } from '../process/built.ts';
import { discrepancies, startTellers, type Told } from '../process/transfers.ts';
import { differentBlocks } from './chains.ts';

const { openClusterAdmin, startNetwork } = (await import(
  built('src/node/index.js')
)) as typeof NodeRoom;

/** A network over etcd with the sample contract, and tellers who can tell how long they waited. */
export class Ledger {
  readonly events: string[] = [];
  readonly network: NodeRoom.Network;
  readonly client: Client;
  readonly admin: NodeRoom.ClusterAdmin;
  /** Of the log. */
  readonly url: string;
  /** Of the network. */
  readonly directory: string;
  #tellers = 0;

  private constructor(
    directory: string,
    url: string,
    network: NodeRoom.Network,
    client: Client,
    admin: NodeRoom.ClusterAdmin,
    events: string[],
  ) {
    this.admin = admin;
    this.url = url;
    this.directory = directory;
    this.network = network;
    this.client = client;
    this.events = events;
  }

  static async start(
    etcd: Cluster,
    options: Partial<NodeRoom.NetworkOptions> & { rotateMs?: number; leaseMs?: number } = {},
  ): Promise<Ledger> {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-cluster-'));
    const events: string[] = [];
    const { rotateMs, leaseMs, ...others } = options;
    const log = { url: etcdUrl(etcd, directory) };
    const network = await startNetwork({
      directory,
      executors: 3,
      httpPort: 0,
      blocks: false,
      cluster: {
        log,
        privateHost: '127.0.0.1',
        privatePort: 0,
        ...(rotateMs === undefined ? {} : { rotateMs }),
        ...(leaseMs === undefined ? {} : { leaseMs }),
      },
      onEvent: (text) => events.push(`${new Date().toISOString().slice(14, 23)} ${text}`),
      ...others,
    });
    const { gateways, channel, signer } = network;
    const client = await connect({ gateways, channel, signer, deadlineMs: 60_000 });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const admin = await openClusterAdmin(realIo(), log);
    return new Ledger(directory, log.url, network, client, admin, events);
  }

  /** Tellers, and a watch on the longest time without an acknowledgement. */
  tellers(count: number): Tellers {
    // Everybody begins with accounts of their own.
    return new Tellers(this, startTellers(this.client, count, `${this.#tellers++}-`));
  }

  /** Name and process of the node that leads; waits until one does. */
  async leader(): Promise<{ name: string; pid: number; epoch: number }> {
    for (;;) {
      const { leader, executors } = await this.network.status();
      const pid = executors.find(({ name }) => name === leader?.node)?.pid;
      if (leader !== undefined && pid !== undefined) {
        return { name: leader.node, pid, epoch: leader.epoch };
      }
      await sleep(20);
    }
  }

  /** Resolves when every executor process serves. */
  async allServe(): Promise<void> {
    const untilMs = performance.now() + 60_000;
    for (;;) {
      const { executors } = await this.network.status();
      if (executors.every(({ status }) => status !== undefined)) return;
      if (performance.now() > untilMs) throw new Error(this.events.join('\n'));
      await sleep(50);
    }
  }

  /** Resolves when every executor has applied the whole log. */
  async level(): Promise<void> {
    const untilMs = performance.now() + 90_000;
    for (;;) {
      const { executors, tail } = await this.network.status();
      const reached = executors.map(({ status }) => status?.nextAddress);
      if (reached.every((address) => address === tail)) return;
      if (performance.now() > untilMs) throw new Error(`at ${reached.join()} of ${tail}`);
      await sleep(50);
    }
  }

  /**
   * What is wrong: with any transfer, as one of the nodes sees it, with the balances of any node,
   * each asked alone, or with the blocks of any.
   */
  async wrong(told: readonly Told[], prefix: string): Promise<string[]> {
    await this.level();
    const found = await discrepancies(this.client, told, prefix);
    const accounts = [
      ...told.map((_, teller) => `${prefix}teller${teller}`),
      ...Array.from({ length: 4 }, (_, common) => `${prefix}common${common}`),
    ];
    const books: string[] = [];
    for (const gateway of this.network.gateways) {
      const { channel, signer } = this.network;
      const one = await connect({ gateways: [gateway], channel, signer });
      const read = accounts.map(async (account) =>
        (await one.evaluate('bench', 'read', [account])).text(),
      );
      books.push((await Promise.all(read)).join());
      await one.close();
    }
    if (new Set(books).size > 1) found.push(`balances differ: ${books.join(' and ')}`);
    const { executors } = await this.network.status();
    const makesBlocks = executors.some(({ status }) => status?.blocks !== undefined);
    if (makesBlocks) found.push(...(await differentBlocks(this.network.gateways)));
    return found;
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.admin.close();
    await this.network.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

class Tellers {
  readonly #ledger: Ledger;
  readonly #tellers: ReturnType<typeof startTellers>;
  readonly #watch: NodeJS.Timeout;
  #count = 0;
  #sinceMs = performance.now();
  #stallMs = 0;

  constructor(ledger: Ledger, tellers: ReturnType<typeof startTellers>) {
    this.#ledger = ledger;
    this.#tellers = tellers;
    this.#watch = setInterval(() => {
      const { acknowledged } = this;
      const nowMs = performance.now();
      if (acknowledged > this.#count) this.#sinceMs = nowMs;
      this.#count = acknowledged;
      this.#stallMs = Math.max(this.#stallMs, nowMs - this.#sinceMs);
    }, 10);
  }

  get acknowledged(): number {
    return this.#tellers.told.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
  }

  /** Longest time without an acknowledgement since the last call, milliseconds. */
  takeStallMs(): number {
    const stallMs = this.#stallMs;
    this.#stallMs = 0;
    return Math.round(stallMs);
  }

  /** Resolves when so many more transfers are acknowledged. */
  async more(count: number, timeoutMs = 90_000): Promise<void> {
    const target = this.acknowledged + count;
    const untilMs = performance.now() + timeoutMs;
    while (this.acknowledged < target) {
      if (performance.now() > untilMs) {
        const status = await this.#ledger.network.status();
        throw new Error(
          `no ${count} more transfers in ${timeoutMs} ms\n${JSON.stringify(status, undefined, 1)}\n` +
            this.#ledger.events.join('\n'),
        );
      }
      await sleep(10);
    }
  }

  /** Stops, and compares what was told with what every node holds. */
  async settle(): Promise<string[]> {
    clearInterval(this.#watch);
    await this.#tellers.stop();
    return this.#ledger.wrong(this.#tellers.told, this.#tellers.prefix);
  }
}

let prefixes = 0;

/** Address of a log of its own on the cluster. */
export function etcdUrl(etcd: Cluster, name = ''): string {
  const suffix = name.replaceAll(/[^A-Za-z0-9]/g, '');
  return `etcd://${etcd.endpoints.join()}/ledger-${suffix}-${prefixes++}`;
}
