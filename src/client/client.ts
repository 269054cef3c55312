import { bytesOf, DaybookError, isDaybookError, limits, toDaybookError } from '../base/index.ts';
import { abortForMany, type Io, realIo } from '../io/index.ts';
import {
  type ContractBundle,
  deployFunction,
  encodeBundle,
  lifecycleNamespace,
  type Position,
  readTokenLifetimeMs,
  type Signer,
  signReadToken,
  type TxId,
  type Verdict,
} from '../model/index.ts';
import { Balancer } from './balancer.ts';
import { argumentBytes, type CallOptions, checkTexts, measureCall } from './call.ts';
import type { DeliveryContext } from './delivery.ts';
import { Dispatcher } from './dispatcher.ts';
import { type ContractEvent, type EventsOptions, followEvents } from './events.ts';
import { HttpTransport } from './http-transport.ts';
import {
  type ConnectOptions,
  checkChoice,
  checkNumbers,
  loadSigner,
  originOf,
  type Settings,
} from './options.ts';
import type { CallResult } from './result.ts';
import type { Transport } from './transport.ts';

/** Where a transaction stands. */
export interface StatusOfTransaction {
  readonly txId: TxId;
  readonly position: Position;
  readonly verdict: Verdict;
  /** True when it took effect. */
  readonly valid: boolean;
  /** Everything the log says about it, as in `docs/http-api.md`. */
  readonly record?: Readonly<Record<string, unknown>>;
}

const readMs = 10_000;

/**
 * Makes a client of one channel of a network. Nothing is sent yet.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`, `NOT_FOUND` (identity files)
 */
export async function connect(options: ConnectOptions): Promise<Client> {
  const io = options.io ?? realIo();
  const signer =
    options.signer ??
    (options.identity === undefined ? undefined : await loadSigner(io.disk, options.identity));
  if (signer === undefined) {
    throw new DaybookError('INVALID_ARGUMENT', 'connect needs a signer or an identity', {
      details: { what: 'signer' },
    });
  }
  if (options.gateways.length === 0) {
    throw new DaybookError('INVALID_ARGUMENT', 'connect needs a gateway', {
      details: { what: 'gateways' },
    });
  }
  const numbers = {
    batchCount: options.batchCount ?? 100,
    batchDelayMs: options.batchDelayMs ?? 100,
    batchesPerGateway: options.batchesPerGateway ?? 16,
    deadlineMs: options.deadlineMs ?? 30_000,
    attemptMs: options.attemptMs ?? 10_000,
    transactionsInFlightMax:
      options.transactionsInFlightMax ?? limits.clientTransactionsInFlightMax,
  };
  checkNumbers(numbers);
  const signing = checkChoice('signing', options.signing ?? 'batch', ['batch', 'single']);
  const whenFull = checkChoice('whenFull', options.whenFull ?? 'wait', ['wait', 'reject']);
  const settings: Settings = {
    ...numbers,
    batchCount: Math.min(numbers.batchCount, limits.batchTransactionsMax),
    attemptMs: Math.min(numbers.attemptMs, limits.gatewayDeadlineMsMax),
    gateways: options.gateways.map(originOf),
    channel: options.channel,
    signer,
    signing,
    whenFull,
  };
  const transport =
    options.transport ??
    new HttpTransport({
      gateways: settings.gateways,
      channel: settings.channel,
      timers: io.timers,
      // Batches, evaluations and reads must not wait for each other's connections.
      connections: 2 * settings.batchesPerGateway + 8,
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      authorization: readAuthorization(signer, settings.channel, io),
    });
  return new Client(settings, io, transport);
}

/** One signature serves many reads. */
function readAuthorization(signer: Signer, channel: string, io: Pick<Io, 'clock'>): () => string {
  let header = '';
  let untilMs = -Infinity;
  return () => {
    const nowMs = io.clock.nowMs();
    if (nowMs > untilMs || nowMs < untilMs - readTokenLifetimeMs) {
      header = `Daybook ${signReadToken(signer, channel, nowMs)}`;
      untilMs = nowMs + readTokenLifetimeMs / 2;
    }
    return header;
  };
}

/**
 * Submits and evaluates contract calls on one channel; safe to share. What a call sees includes
 * everything this client was told is committed, whichever gateway answers.
 */
export class Client {
  readonly #settings: Settings;
  readonly #io: Pick<Io, 'clock' | 'timers' | 'random'>;
  readonly #transport: Transport;
  readonly #balancer: Balancer;
  readonly #submits: Dispatcher;
  readonly #evaluations: Dispatcher;
  readonly #horizon: { position: number | undefined } = { position: undefined };
  /** Every batch that pauses listens. */
  readonly #closing = abortForMany();
  #closed = false;

  /** Use {@link connect}. */
  constructor(
    settings: Settings,
    io: Pick<Io, 'clock' | 'timers' | 'random'>,
    transport: Transport,
  ) {
    this.#settings = settings;
    this.#io = io;
    this.#transport = transport;
    this.#balancer = new Balancer(settings.gateways);
    const context: Omit<DeliveryContext, 'door' | 'mode'> = {
      io,
      transport,
      balancer: this.#balancer,
      signer: settings.signer,
      channel: settings.channel,
      attemptMs: settings.attemptMs,
      horizon: this.#horizon,
      closing: this.#closing.signal,
    };
    const { signing } = settings;
    this.#submits = new Dispatcher({ ...context, door: 'batches', mode: signing }, settings);
    this.#evaluations = new Dispatcher({ ...context, door: 'evaluate', mode: 'batch' }, settings);
  }

  get channel(): string {
    return this.#settings.channel;
  }

  /**
   * Calls a contract function as a transaction; resolves once it is committed.
   *
   * @throws {DaybookError} with `details.txId`: `CONTRACT_…` as the contract or a limit refused it,
   *   `TRANSACTION_…`, `OUTCOME_UNKNOWN` (it may still commit: see {@link Client.status}); without
   *   it, when it was not sent: `INVALID_ARGUMENT`, `LIMIT_EXCEEDED`, `OVERLOADED`, `CLOSED`, `TIMEOUT`.
   */
  submit(
    contract: string,
    functionName: string,
    args: readonly (string | Uint8Array)[] = [],
    options: CallOptions = {},
  ): Promise<CallResult> {
    return this.#call(this.#submits, contract, functionName, args, options);
  }

  /**
   * Runs a contract function on committed state; what it writes is forgotten.
   *
   * @throws {DaybookError} as {@link Client.submit}, never `OUTCOME_UNKNOWN`
   */
  evaluate(
    contract: string,
    functionName: string,
    args: readonly (string | Uint8Array)[] = [],
    options: Omit<CallOptions, 'orderingKey'> = {},
  ): Promise<CallResult> {
    return this.#call(this.#evaluations, contract, functionName, args, options);
  }

  /**
   * Installs or upgrades a contract.
   *
   * @throws {DaybookError} as {@link Client.submit}; `ACCESS_DENIED` without the right to deploy
   */
  deploy(bundle: ContractBundle, options: CallOptions = {}): Promise<CallResult> {
    const args = [bytesOf(encodeBundle(bundle))];
    return this.submit(lifecycleNamespace, deployFunction, args, options);
  }

  /**
   * Looks a transaction up; `undefined` when no gateway that answers knows it (yet).
   *
   * @throws {DaybookError} `PEER_UNREACHABLE` when no gateway answers
   */
  async status(txId: TxId): Promise<StatusOfTransaction | undefined> {
    let unknown = false;
    let failure: DaybookError | undefined;
    for (const gateway of this.#settings.gateways) {
      try {
        const path = `transactions/${encodeURIComponent(txId)}`;
        return (await this.#transport.getJson(gateway, path, readMs)) as StatusOfTransaction;
      } catch (error) {
        if (isDaybookError(error, 'TRANSACTION_UNKNOWN')) unknown = true;
        else failure = toDaybookError(error);
      }
    }
    if (unknown || failure === undefined) return undefined;
    throw failure;
  }

  /**
   * Resolves once a gateway's node has applied `position`; what this client asks from then on sees
   * it at every gateway.
   *
   * @throws {DaybookError} `TIMEOUT`, `PEER_UNREACHABLE`
   */
  async waitFor(position: number, waitMs: number = readMs): Promise<void> {
    const path = `positions/${position}?waitMs=${waitMs}`;
    const answer = (await this.get(path, waitMs + readMs)) as { applied: boolean };
    if (!answer.applied) {
      throw new DaybookError('TIMEOUT', 'the position was not reached', { details: { position } });
    }
    this.#horizon.position = Math.max(position, this.#horizon.position ?? -1);
  }

  /** Contract events from a position on, without end; see {@link followEvents}. */
  events(options: EventsOptions = {}): AsyncGenerator<ContractEvent, void> {
    return followEvents(
      {
        io: this.#io,
        transport: this.#transport,
        balancer: this.#balancer,
        closing: this.#closing.signal,
      },
      options,
    );
  }

  /**
   * Asks one of the channel's read routes (`docs/http-api.md`), e.g. `contracts` or `log?limit=5`,
   * at the first gateway that answers.
   *
   * @throws {DaybookError} what the gateway answers; `PEER_UNREACHABLE`
   */
  async get(path: string, waitMs: number = readMs): Promise<unknown> {
    let failure: unknown;
    for (let tries = this.#settings.gateways.length; tries > 0; tries--) {
      const { gateway } = this.#balancer.pick(this.#io.clock.monotonicMs());
      this.#balancer.started(gateway, 0);
      let failed = false;
      try {
        return await this.#transport.getJson(gateway, path, waitMs);
      } catch (error) {
        if (!isDaybookError(error, 'PEER_UNREACHABLE', 'OVERLOADED', 'CLOSED', 'NODE_DIVERGED'))
          throw error;
        failure = error;
        failed = true;
      } finally {
        const nowMs = this.#io.clock.monotonicMs();
        this.#balancer.ended(gateway, 0, failed, nowMs, this.#io.random.number());
      }
    }
    throw failure;
  }

  /**
   * Refuses new calls, waits for those under way (`now`: gives them up), closes connections and
   * ends event iterations.
   */
  async close(options: { now?: boolean } = {}): Promise<void> {
    this.#closed = true;
    if (options.now === true) {
      this.#closing.abort();
      const error = new DaybookError('CLOSED', 'the client was closed');
      this.#submits.rejectWaiting(error);
      this.#evaluations.rejectWaiting(error);
      await this.#transport.close();
    }
    await Promise.all([this.#submits.idle(), this.#evaluations.idle()]);
    this.#closing.abort();
    if (options.now !== true) await this.#transport.close();
  }

  #call(
    dispatcher: Dispatcher,
    contract: string,
    functionName: string,
    args: readonly (string | Uint8Array)[],
    options: CallOptions,
  ): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new DaybookError('CLOSED', 'the client is closed');
      const { orderingKey = '', contractVersion = '' } = options;
      checkTexts({ contract, functionName, orderingKey, contractVersion });
      const bytes = argumentBytes(args);
      const waitMs = options.deadlineMs ?? this.#settings.deadlineMs;
      dispatcher.add({
        contract,
        contractVersion,
        functionName,
        args: bytes,
        orderingKey,
        bytes: measureCall([contract, functionName, contractVersion, orderingKey], bytes),
        deadlineMs: this.#io.clock.monotonicMs() + waitMs,
        resolve,
        reject,
        transaction: undefined,
        txId: '',
      });
    });
  }
}
