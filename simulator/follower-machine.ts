import { toDaybookError } from '../src/base/index.ts';
import { type Io, type RpcPeer, rpcPeer } from '../src/io/index.ts';
import { positionOf } from '../src/model/index.ts';
import type { Replica } from '../src/replica/index.ts';
import {
  type Feed,
  type Follower,
  type FollowerIntroduction,
  type FollowerService,
  openFollowerService,
  startFollower,
} from '../src/replication/index.ts';
import { decodePage } from '../src/replication/page.ts';
import { appliedWithin } from './applied-within.ts';
import type { Cluster } from './cluster.ts';
import { contractName } from './contracts.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SinkModel } from './sink-model.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

const methods = { pull: 210, scan: 211, applied: 212 } as const;
const subscription = [{ contract: contractName }];
const restartMs = 100;
const waitMs = 500;
const answerMs = 3_000;
const owner = 'Org1';
const cursorKey = Buffer.alloc(32, 7);

/** Opens the ledger's side of replication on a node and answers followers over a connection. */
export async function openFollowers(
  cluster: Cluster,
  io: Io,
  replica: Replica,
): Promise<{ readonly service: FollowerService; serve(peer: RpcPeer): void }> {
  const service = await openFollowerService({
    io,
    source: sourceOf(cluster, io, replica),
    directory: '/followers',
    cursorKey,
  });
  const serve = (peer: RpcPeer): void => {
    for (const [name, method] of Object.entries(methods)) {
      peer.handle(method, async (payload) => {
        const request = JSON.parse(payload.toString()) as WireRequest;
        checkApplied(cluster, request);
        try {
          return [Buffer.from(JSON.stringify(await ask(service, name, request)))];
        } catch (error) {
          const { reason } = toDaybookError(error).details;
          if (reason === 'log-trimmed')
            cluster.world.happened('follower: what it lacks is trimmed');
          throw error;
        }
      });
    }
  };
  return { service, serve };
}

interface WireRequest {
  readonly follower: string;
  readonly body: { readonly applied?: number } & Record<string, unknown>;
}

/** “Applied” is what the follower's system holds for good. */
function checkApplied({ world, followers }: Cluster, { follower, body }: WireRequest): void {
  const sink = followers.find(({ name }) => name === follower)?.sink;
  if (body.applied === undefined || body.applied <= (sink?.position ?? 0)) return;
  const what = `${follower} acknowledges ${body.applied}; its system stands at ${sink?.position}`;
  world.fail(new SimulationFailure('correctness', `sink: ${what}`));
}

async function ask(service: FollowerService, name: string, request: WireRequest): Promise<unknown> {
  const { follower, body } = request;
  const whole = body as never;
  if (name === 'pull') return await service.pull(follower, owner, whole);
  if (name === 'scan') return await service.scan(follower, owner, whole);
  return service.applied(follower, owner, whole);
}

function sourceOf({ config }: Cluster, io: Io, replica: Replica) {
  return {
    channel: config.channel,
    nextAddress: () => replica.nextAddress,
    waitFor: (position: number, ms: number) => appliedWithin(replica, io, position, ms),
    read: async (from: Parameters<typeof positionOf>[0], limit: number) => {
      if (from >= replica.nextAddress) return [];
      const abort = new AbortController();
      for await (const page of replica.readApplied(positionOf(from, 0), abort.signal)) {
        abort.abort();
        return page.slice(0, limit);
      }
      return [];
    },
    rows: (start: string, end: string, limit: number) => replica.state.range(start, end, limit),
    logTimeMs: () => replica.logTimeMs,
  };
}

/** A machine with a follower; its database is elsewhere and outlives it. */
export class FollowerMachine {
  readonly name: string;
  readonly sink: SinkModel;
  readonly #cluster: Cluster;
  readonly #disk: SimDisk;
  #process: SimProcess | undefined;
  #follower: Follower | undefined;
  #starts = 0;

  constructor(cluster: Cluster, number: number) {
    this.#cluster = cluster;
    this.name = `follower${number}`;
    this.sink = new SinkModel(cluster.world);
    this.#disk = new SimDisk(cluster.world);
  }

  get isStarted(): boolean {
    return this.#starts > 0;
  }

  start(): void {
    const { world, network, mutant } = this.#cluster;
    const process = world.spawn(this.name, `${this.name}.${this.#starts++}`);
    this.#process = process;
    const io = simIo(world, process, this.#disk, network);
    const feed = new SimFeed(this.#cluster, io);
    this.#follower = startFollower({
      io,
      name: this.name,
      feed: mutant.feed?.(feed) ?? feed,
      sink: this.sink.of(process),
      subscription,
      changesMax: world.chance.pick([3, 50, 1_000]),
      waitMs,
      timing: { retryMinMs: 20, retryMaxMs: 400 },
      onEvent: (text) => world.note(`${this.name}: ${text}`),
    });
    this.#follower.ended.catch((error: unknown) => {
      const { code, message } = toDaybookError(error);
      // Fenced: its own last transaction had taken effect without an answer.
      world.note(`${this.name} ended: ${code} ${message}`);
      if (code === 'INTERNAL') {
        world.fail(new SimulationFailure('crash', `${this.name}: ${message}`, error));
      }
      this.crash();
    });
  }

  /** Ends the process and starts it again a little later. */
  crash(): void {
    const { world } = this.#cluster;
    if (this.#process?.alive !== true) return;
    world.note(`${this.name} is killed`);
    world.kill(this.#process);
    world.after(undefined, restartMs * 1000, 'restart', () => this.start());
  }

  heal(): void {
    this.sink.failures = 0;
  }
}

/** Asks one node after the other, as followers over HTTP do. */
class SimFeed implements Feed {
  readonly #cluster: Cluster;
  readonly #io: Io;
  #node: number;
  #peer: RpcPeer | undefined;

  constructor(cluster: Cluster, io: Io) {
    this.#cluster = cluster;
    this.#io = io;
    this.#node = cluster.world.chance.below(cluster.nodes.length);
  }

  async pull(introduction: FollowerIntroduction, cursor: string, _at: number, ms: number) {
    const body = { ...introduction, cursor, waitMs: ms, format: 'compact' };
    const answer = await this.#ask<{ body: string }>('pull', introduction, body, ms);
    return decodePage(answer.body);
  }

  async scan(
    introduction: FollowerIntroduction,
    from: number | undefined,
    resume: string | undefined,
  ) {
    const body = { ...introduction, from, resume, format: 'compact' };
    const { body: text } = await this.#ask<{ body: string }>('scan', introduction, body, 0);
    const end = text.indexOf('\n');
    const head = JSON.parse(text.slice(0, end)) as { resume: string | null };
    return { page: decodePage(text.slice(end + 1)), resume: head.resume ?? undefined };
  }

  async applied(introduction: FollowerIntroduction): Promise<number> {
    const body = { ...introduction };
    return (await this.#ask<{ confirmed: number }>('applied', introduction, body, 0)).confirmed;
  }

  async close(): Promise<void> {
    this.#peer?.close();
  }

  async #ask<T>(
    name: keyof typeof methods,
    { follower }: FollowerIntroduction,
    body: object,
    ms: number,
  ): Promise<T> {
    const { nodes } = this.#cluster;
    let peer: RpcPeer | undefined;
    try {
      const address = nodes[this.#node]?.address ?? '';
      this.#peer ??= rpcPeer(await this.#io.network.connect(address));
      peer = this.#peer;
      const asked = peer;
      const timer = this.#io.timers.after(ms + answerMs, () => asked.close());
      try {
        const payload = Buffer.from(JSON.stringify({ follower, body }));
        return JSON.parse((await asked.call(methods[name], [payload])).toString()) as T;
      } finally {
        timer.cancel();
      }
    } catch (error) {
      if (toDaybookError(error).retry !== 'never' && this.#peer === peer) {
        this.#peer?.close();
        this.#peer = undefined;
        this.#node = (this.#node + 1) % nodes.length;
      }
      throw error;
    }
  }
}
