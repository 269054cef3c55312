import { ByteWriter, DaybookError, toDaybookError } from '../src/base/index.ts';
import { type Io, pause, type RpcPeer, rpcPeer } from '../src/io/index.ts';
import { OutcomeReader, signBatch, type WireOutcome } from '../src/model/index.ts';
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
  answeredUs: number | undefined;
  outcome: WireOutcome | undefined;
  /** Sent more than once, or an answer was lost: what it says about failure is not the last word. */
  attempts: number;
}

const retryMs = 20;
/** Share of batches that go to two nodes at once, as when a network repeats them. */
const repeatedShare = 0.03;

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
    return await this.send(
      { ...signed, functionNames: calls.map(({ functionName }) => functionName) },
      options,
    );
  }

  /** As {@link SimClient.submit}, what is signed already. */
  async send(
    { bytes, txIds, functionNames }: SignedCalls,
    options: { readonly node?: number; readonly deadlineMs: number },
  ): Promise<readonly CallHistory[]> {
    const { world } = this.#cluster;
    const histories: CallHistory[] = [];
    for (let index = 0; index < txIds.length; index++) {
      const call: CallHistory = {
        txId: txIds[index] as string,
        functionName: functionNames[index] ?? '',
        submittedUs: world.nowUs,
        answeredUs: undefined,
        outcome: undefined,
        attempts: 0,
      };
      histories.push(call);
    }
    this.outstanding++;
    const deadlineMs = this.#io.clock.monotonicMs() + options.deadlineMs;
    let node = options.node ?? world.chance.below(this.#cluster.nodes.length);
    const repeated = world.chance.happens(repeatedShare);
    if (repeated) for (const call of histories) call.attempts++;
    const other = world.chance.below(this.#cluster.nodes.length);
    const second = repeated
      ? this.#attempt(other, bytes, options.deadlineMs, histories)
      : Promise.resolve(false);
    for (;;) {
      const leftMs = deadlineMs - this.#io.clock.monotonicMs();
      if (leftMs <= 0) break;
      for (const call of histories) if (call.outcome === undefined) call.attempts++;
      const retry = await this.#attempt(node, bytes, leftMs, histories);
      if (!retry) break;
      await pause(this.#io, retryMs);
      node = (node + 1) % this.#cluster.nodes.length;
    }
    await second;
    this.outstanding--;
    for (const call of histories) this.#keep(call);
    return histories;
  }

  #keep(call: CallHistory): void {
    const { txId, outcome, submittedUs, answeredUs } = call;
    if (outcome?.status === 'committed' && answeredUs !== undefined) {
      this.committed.add(txId, outcome.position, outcome.result, submittedUs, answeredUs);
    } else this.failed.push(call);
  }

  /** @returns whether another attempt is worth it. */
  async #attempt(
    node: number,
    batch: Uint8Array,
    leftMs: number,
    histories: readonly CallHistory[],
  ): Promise<boolean> {
    const address = this.#cluster.nodes[node]?.address ?? '';
    let answer: Buffer;
    try {
      const peer = await this.#peer(address);
      const header = new ByteWriter(4).u32(Math.ceil(leftMs)).view();
      const call = peer.call(submitMethod, [header, batch]);
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
    new OutcomeReader(histories.length, (index, outcome) => {
      const history = histories[index];
      if (history === undefined) return;
      if (outcome.status === 'committed') {
        history.outcome = outcome;
        history.answeredUs ??= this.#cluster.world.nowUs;
      } else if (history.outcome === undefined) {
        checkRefusal(this.#cluster.world, address, DaybookError.fromJSON(outcome.error));
        if (outcome.error.retry === 'never') history.outcome = outcome;
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
