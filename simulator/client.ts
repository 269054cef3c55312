import { ByteWriter, DaybookError, toDaybookError } from '../src/base/index.ts';
import { type Io, pause, type RpcPeer, rpcPeer } from '../src/io/index.ts';
import { type Outcome, OutcomeReader, signBatch } from '../src/model/index.ts';
import { checkRefusal } from './bounds.ts';
import type { Cluster } from './cluster.ts';
import { CommittedCalls } from './committed-calls.ts';
import { submitMethod } from './executor-machine.ts';
import { simulatedSigner } from './identity.ts';
import type { SignedCalls } from './load-batches.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import type { SimProcess } from './world.ts';

/** One call of the workload. */
export interface SimCall {
  readonly contract: string;
  readonly functionName: string;
  readonly args: readonly (string | Uint8Array)[];
  readonly orderingKey?: string;
}

/** One call with what became of it. */
export interface CallHistory {
  readonly txId: string;
  readonly functionName: string;
  readonly submittedUs: number;
  readonly outcome: Outcome | undefined;
  /** Sent more than once, or an answer was lost: what it says about failure is not the last word. */
  readonly attempts: number;
}

/** A batch with what became of its calls, in columns: there are very many of them. */
interface SentBatch extends SignedCalls {
  readonly submittedUs: number;
  readonly outcomes: (Outcome | undefined)[];
  readonly answeredUs: number[];
  readonly attempts: number[];
}

const retryMs = 20;
/** Share of batches that go to two nodes at once, as when a network repeats them. */
const repeatedShare = 0.03;
/** Batches that a client remembers. */
const committedMax = 20;

/** A client: signs batches and sends the same bytes again, to another node, until a deadline. */
export class SimClient {
  readonly #cluster: Cluster;
  readonly #process: SimProcess;
  readonly #io: Io;
  readonly #peers = new Map<string, RpcPeer>();
  /** Its calls whose commit was answered. */
  readonly committed = new CommittedCalls();
  /** Its other calls that have ended. */
  readonly failed: CallHistory[] = [];
  /** Batches without final outcomes. */
  outstanding = 0;
  /** What took effect a while ago, oldest first; kept where it is sent again. */
  readonly #committed: SentBatch[] = [];

  constructor(cluster: Cluster, number: number) {
    this.#cluster = cluster;
    this.#process = cluster.world.spawn(`client${number}`, `client${number}`);
    const disk = new SimDisk(cluster.world);
    this.#io = simIo(cluster.world, this.#process, disk, cluster.network);
  }

  /** Sends calls as one batch; `node` first, others after a failure. Resolves with the outcomes. */
  async submit(
    calls: readonly SimCall[],
    options: { readonly node?: number; readonly deadlineMs: number },
  ): Promise<readonly CallHistory[]> {
    const { config } = this.#cluster;
    const signed = signBatch(
      simulatedSigner,
      config.channel,
      this.#io.random.bytes(16),
      calls.map(({ contract, functionName, args, orderingKey }) => ({
        transaction: {
          channel: config.channel,
          contract,
          contractVersion: '',
          functionName,
          args: args.map((arg) => (typeof arg === 'string' ? Buffer.from(arg) : arg)),
          nonce: this.#io.random.bytes(24),
          timestampMs: this.#io.clock.nowMs(),
        },
        ...(orderingKey === undefined ? {} : { orderingKey }),
      })),
    );
    const sent = await this.send(
      { ...signed, functionNames: calls.map(({ functionName }) => functionName) },
      options,
    );
    return calls.map((_, index) => historyOf(sent, index));
  }

  /** As {@link SimClient.submit}, what is signed already. */
  async send(
    signed: SignedCalls,
    options: { readonly node?: number; readonly deadlineMs: number },
  ): Promise<SentBatch> {
    const { world } = this.#cluster;
    const count = signed.txIds.length;
    const sent = begun(signed, world.nowUs);
    this.outstanding++;
    const deadlineMs = this.#io.clock.monotonicMs() + options.deadlineMs;
    let node = options.node ?? world.chance.below(this.#cluster.nodes.length);
    const repeated = world.chance.happens(repeatedShare);
    if (repeated) sent.attempts.fill(1);
    const other = world.chance.below(this.#cluster.nodes.length);
    const second = repeated
      ? this.#attempt(other, options.deadlineMs, sent)
      : Promise.resolve(false);
    for (;;) {
      const leftMs = deadlineMs - this.#io.clock.monotonicMs();
      if (leftMs <= 0) break;
      for (let index = 0; index < count; index++) {
        if (sent.outcomes[index] === undefined) (sent.attempts[index] as number)++;
      }
      const retry = await this.#attempt(node, leftMs, sent);
      if (!retry) break;
      await pause(this.#io, retryMs);
      node = (node + 1) % this.#cluster.nodes.length;
    }
    await second;
    this.outstanding--;
    this.#keep(sent);
    return sent;
  }

  /**
   * Sends a batch that took effect once more, as somebody would who has recorded it: it must not do so
   * again, wherever its entry is now. The oracle judges the answer.
   */
  async sendAgain(deadlineMs: number): Promise<void> {
    const { world, nodes } = this.#cluster;
    if (this.#committed.length === 0) return;
    world.happened('network: a batch comes again much later');
    const again = begun(world.chance.pick(this.#committed), world.nowUs);
    await this.#attempt(world.chance.below(nodes.length), deadlineMs, again);
  }

  #keep(sent: SentBatch): void {
    const { txIds, outcomes, submittedUs, answeredUs } = sent;
    for (let index = 0; index < outcomes.length; index++) {
      const outcome = outcomes[index];
      if (outcome?.status === 'committed') {
        const { position, result } = outcome;
        const answered = answeredUs[index] as number;
        this.committed.add(txIds[index] as string, position, result, submittedUs, answered);
      } else this.failed.push(historyOf(sent, index));
    }
    const isWhole = outcomes.every((outcome) => outcome?.status === 'committed');
    if (this.#cluster.retention === undefined || !isWhole) return;
    if (this.#committed.push(sent) > committedMax) this.#committed.shift();
  }

  /** @returns whether another attempt is worth it. */
  async #attempt(node: number, leftMs: number, sent: SentBatch): Promise<boolean> {
    const address = this.#cluster.nodes[node]?.address ?? '';
    let answer: Buffer;
    try {
      const peer = await this.#peer(address);
      const header = new ByteWriter(4).u32(Math.ceil(leftMs)).view();
      const call = peer.call(submitMethod, [header, sent.bytes]);
      const timer = this.#io.timers.after(leftMs + 500, () => {
        this.#peers.delete(address);
        peer.close();
      });
      try {
        answer = await call;
      } finally {
        timer.cancel();
      }
    } catch (thrown) {
      const error = toDaybookError(thrown);
      checkRefusal(this.#cluster.world, address, error);
      return error.retry !== 'never';
    }
    let retry = false;
    const { outcomes, answeredUs } = sent;
    new OutcomeReader(outcomes.length, (index, outcome) => {
      const known = outcomes[index];
      if (outcome.status === 'committed') {
        if (known?.status !== 'committed') answeredUs[index] = this.#cluster.world.nowUs;
        outcomes[index] = outcome;
      } else if (known === undefined) {
        checkRefusal(this.#cluster.world, address, DaybookError.fromJSON(outcome.error));
        if (outcome.error.retry === 'never') outcomes[index] = outcome;
        else retry = true;
      }
    }).push(answer);
    return retry;
  }

  async #peer(address: string): Promise<RpcPeer> {
    const known = this.#peers.get(address);
    if (known !== undefined) return known;
    const peer = rpcPeer(await this.#io.network.connect(address));
    peer.onClose(() => {
      if (this.#peers.get(address) === peer) this.#peers.delete(address);
    });
    this.#peers.set(address, peer);
    return peer;
  }
}

function begun(signed: SignedCalls, submittedUs: number): SentBatch {
  const count = signed.txIds.length;
  return {
    ...signed,
    submittedUs,
    outcomes: new Array<Outcome | undefined>(count).fill(undefined),
    answeredUs: new Array<number>(count).fill(0),
    attempts: new Array<number>(count).fill(0),
  };
}

function historyOf(sent: SentBatch, index: number): CallHistory {
  return {
    txId: sent.txIds[index] as string,
    functionName: sent.functionNames[index] as string,
    submittedUs: sent.submittedUs,
    outcome: sent.outcomes[index],
    attempts: sent.attempts[index] as number,
  };
}
