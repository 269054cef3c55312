import { type DaybookError, toDaybookError } from '../src/base/index.ts';
import { type Client, connect } from '../src/client/index.ts';
import type { SigningMode } from '../src/model/index.ts';
import { checkRefusal } from './bounds.ts';
import type { SimCall } from './client.ts';
import type { Cluster } from './cluster.ts';
import { CommittedCalls } from './committed-calls.ts';
import { contractName } from './contracts.ts';
import { simulatedSigner } from './identity.ts';
import { watchTransport } from './sdk-bounds.ts';
import { SimTransport } from './sdk-transport.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SimulationFailure } from './world.ts';

/** A call through the library, and how it ended. */
export interface SdkCall {
  readonly functionName: string;
  /** Its last argument, which tells it from all others; of a call that is signed singly. */
  readonly mark: string | undefined;
  readonly orderingKey: string;
  /** It counts the client's own counter up. */
  readonly isOwnCount: boolean;
  readonly submittedUs: number;
  endedUs: number;
  /** Hexadecimal; `undefined`: it was never sent. */
  txId: string | undefined;
  /** Of a committed call. */
  position: number | undefined;
  error: DaybookError | undefined;
}

const attemptMsChoices = [300, 2_000, 10_000];
const deadlineMsChoices = [400, 4_000, 12_000];

/** A program that uses the client library: what the library promises it, it takes at its word. */
export class SdkClient {
  readonly name: string;
  readonly #cluster: Cluster;
  readonly #client: Promise<Client>;
  readonly signing: SigningMode;
  /** Key of a counter that nobody else counts up. */
  readonly counter: string;
  /** Everything asked of the library that has ended, in the order in which it was asked. */
  readonly calls: SdkCall[] = [];
  /** Those of them that were committed, as the checks of all clients want them. */
  readonly committed = new CommittedCalls();
  /** The highest count that it was told. */
  #counted = 0;
  #horizon = -1;

  constructor(cluster: Cluster, number: number, signing: SigningMode) {
    const { world, config, nodes, mutant, bounds } = cluster;
    const { chance } = world;
    this.#cluster = cluster;
    this.name = `sdk${number}`;
    this.signing = signing;
    this.counter = `d${number}`;
    const process = world.spawn(this.name, this.name);
    const io = simIo(world, process, new SimDisk(world), cluster.network);
    const settings = {
      // An executor never takes a batch for which it would have no room if it had nothing else.
      batchCount: Math.min(chance.pick([3, 20, 100]), bounds.transactionsMax),
      batchDelayMs: chance.pick([5, 100]),
      batchesPerGateway: chance.pick([1, 2, 16]),
      transactionsInFlightMax: chance.pick([15, 20_000]),
    };
    const transport = mutant.transport?.(new SimTransport(io)) ?? new SimTransport(io);
    this.#client = connect({
      ...settings,
      signing,
      gateways: nodes.map((node) => `http://${node.name}:80`),
      channel: config.channel,
      signer: simulatedSigner,
      attemptMs: chance.pick(attemptMsChoices),
      deadlineMs: chance.pick(deadlineMsChoices),
      whenFull: chance.pick(['wait', 'reject'] as const),
      io,
      transport: watchTransport(world, this.name, transport, {
        ...settings,
        gateways: nodes.length,
        signing,
      }),
    }).then((client) => mutant.sdk?.(client) ?? client);
  }

  /** Submits calls one by one, at once; resolves when all have ended. */
  async submit(calls: readonly SimCall[], deadlineMs: number | undefined): Promise<void> {
    const client = await this.#client;
    const all = calls.map((call) => this.#one(client, call, deadlineMs));
    for (const one of all) await one;
  }

  /** Counts its own counter up, then asks for it: what it was told must be there. */
  async count(deadlineMs: number | undefined): Promise<void> {
    const client = await this.#client;
    const call = { contract: contractName, functionName: 'count', args: [this.counter] };
    await this.#one(client, call, deadlineMs);
    const [least, horizon] = [this.#counted, this.#horizon];
    const options = deadlineMs === undefined ? {} : { deadlineMs };
    try {
      const next = await client.evaluate(contractName, 'count', [this.counter], options);
      this.#cluster.world.happened('client: a call is evaluated');
      if (Number(next.text()) <= least) {
        this.#wrong(`was told ${least}, then evaluates ${next.text()} as the next`);
      }
      if (next.position <= horizon) {
        this.#wrong(`was told ${horizon}, then evaluates before ${next.position}`);
      }
    } catch (thrown) {
      if (thrown instanceof SimulationFailure) throw thrown;
      checkRefusal(this.#cluster.world, this.name, toDaybookError(thrown));
    }
  }

  async #one(client: Client, call: SimCall, deadlineMs: number | undefined): Promise<void> {
    const { world } = this.#cluster;
    const { contract, functionName, orderingKey = '' } = call;
    const mark = this.signing === 'single' ? `#${this.name}.${this.calls.length}` : undefined;
    // Functions do not look at what comes behind their arguments.
    const args = mark === undefined ? call.args : [...call.args, mark];
    const kept: SdkCall = {
      functionName,
      mark,
      orderingKey,
      isOwnCount: args[0] === this.counter,
      submittedUs: world.nowUs,
      endedUs: Number.POSITIVE_INFINITY,
      txId: undefined,
      position: undefined,
      error: undefined,
    };
    this.calls.push(kept);
    const options = { orderingKey, ...(deadlineMs === undefined ? {} : { deadlineMs }) };
    try {
      const result = await client.submit(contract, functionName, args, options);
      const { txId, position } = result;
      kept.txId = txId;
      kept.position = position;
      kept.endedUs = world.nowUs;
      const bytes = result.bytes().latin1Slice();
      this.committed.add(txId, position, bytes, kept.submittedUs, kept.endedUs);
      this.#horizon = Math.max(this.#horizon, position);
      if (kept.isOwnCount) this.#counted = Math.max(this.#counted, Number(bytes));
    } catch (thrown) {
      const error = toDaybookError(thrown);
      kept.error = error;
      kept.txId = error.details.txId as string | undefined;
      kept.endedUs = world.nowUs;
      checkRefusal(world, this.name, error);
      if (error.code === 'OUTCOME_UNKNOWN') world.happened('client: an outcome stays unknown');
    }
  }

  #wrong(what: string): never {
    throw new SimulationFailure('correctness', `client: ${this.name} ${what}`);
  }
}
