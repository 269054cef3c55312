import {
  Channel,
  type ChannelCredentials,
  type ClientDuplexStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { DaybookError, isDaybookError } from '../../base/index.ts';
import type { Io } from '../../io/index.ts';
import {
  type CallName,
  type Calls,
  etcdServices,
  type ServiceName,
  type StatusResponse,
  serviceOf,
} from './etcd-api.ts';
import { type CallVerdict, spaceExhausted, verdictOf } from './grpc-errors.ts';
import type { Settings } from './options.ts';

/** The part of the outside world that the log on etcd needs beside gRPC. */
export type EtcdIo = Pick<Io, 'clock' | 'timers' | 'random'>;

/** What {@link UnitClient.call} may be told. */
export interface CallOptions {
  /** Time for one member's answer, and for all attempts together; milliseconds. */
  readonly attemptTimeoutMs?: number;
  readonly timeoutMs?: number;
  /** Asks this member only. */
  readonly member?: number;
}

type Unary = (
  request: object,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => ClientUnaryCall;
type Stream = (metadata: Metadata) => ClientDuplexStream<object, object>;
type Stub = Record<string, Unary | Stream>;

interface Member {
  readonly endpoint: string;
  readonly channels: { calls: Channel; streams: Channel };
  readonly stubs: Map<string, Stub>;
}

const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // etcd closes connections that ping more often than every five seconds.
  'grpc.keepalive_time_ms': 6000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.use_local_subchannel_pool': 1,
};

/**
 * Connections to the members of one etcd cluster. Asks one member, the leader where it can, and
 * turns to another when that one does not answer. Every call may reach etcd more than once: the
 * callers' requests are such that this does no harm.
 */
export class UnitClient {
  readonly #io: EtcdIo;
  readonly #settings: Settings;
  readonly #security: ChannelCredentials;
  #members: readonly Member[];
  readonly #pending = new Set<{ cancel(): void }>();
  #preferred = 0;
  #leaderSearch = false;
  #token: Promise<string> | undefined;
  #closed = false;

  constructor(io: EtcdIo, settings: Settings, endpoints: readonly string[]) {
    this.#io = io;
    this.#settings = settings;
    const tls = settings.tls;
    this.#security = tls
      ? credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.certificate))
      : credentials.createInsecure();
    this.#members = endpoints.map((endpoint) => newMember(endpoint, this.#security));
    this.#preferred = Math.floor(io.random.number() * endpoints.length);
  }

  /** `host:port` of every member. */
  get endpoints(): readonly string[] {
    return this.#members.map((member) => member.endpoint);
  }

  /** Members have come or gone; calls under way to one that is gone turn to another. */
  setEndpoints(endpoints: readonly string[]): void {
    const before = this.#members;
    this.#members = endpoints.map(
      (endpoint) =>
        before.find((member) => member.endpoint === endpoint) ??
        newMember(endpoint, this.#security),
    );
    this.#preferred = 0;
    for (const member of before) {
      if (!this.#members.includes(member)) closeChannels(member);
    }
  }

  /** How many members are known. */
  get memberCount(): number {
    return this.#members.length;
  }

  /**
   * One unary call, on one member after the other until the time is up.
   *
   * @throws {DaybookError} `TIMEOUT`, `CLOSED`, `ACCESS_DENIED`; `OVERLOADED` with
   *   `details.limit` `logSpaceBytes` when etcd's quota is used up.
   */
  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]['request'],
    options: CallOptions = {},
  ): Promise<Calls[Name]['response']> {
    const clock = this.#io.clock;
    const deadlineMs = clock.monotonicMs() + (options.timeoutMs ?? this.#settings.callTimeoutMs);
    const attemptMs = options.attemptTimeoutMs ?? this.#settings.attemptTimeoutMs;
    for (let attempt = 0; ; attempt++) {
      const member = options.member ?? this.#preferred;
      const leftMs = deadlineMs - clock.monotonicMs();
      let verdict: CallVerdict;
      let cause: unknown;
      try {
        return await this.#attempt(member, name, request, Math.min(attemptMs, Math.max(leftMs, 1)));
      } catch (error) {
        cause = error;
        verdict = isDaybookError(error) ? 'fail' : verdictOf(error as ServiceError);
      }
      if (this.#closed) throw closedError();
      if (verdict === 'fail') throw refused(name, cause);
      if (verdict === 'space') throw spaceExhausted(cause);
      if (verdict === 'denied') {
        throw new DaybookError('ACCESS_DENIED', `etcd refused ${name}: ${textOf(cause)}`, {
          cause,
        });
      }
      if (verdict === 'authenticate') this.#token = undefined;
      if (verdict === 'elsewhere' && options.member === undefined) this.#leave(member);
      const pauseMs = Math.min(10 * 2 ** attempt, 200) * (0.5 + this.#io.random.number());
      if (clock.monotonicMs() + pauseMs >= deadlineMs) {
        throw new DaybookError('TIMEOUT', `no answer from etcd to ${name}: ${textOf(cause)}`, {
          details: { endpoints: this.endpoints.join(',') },
          cause,
        });
      }
      await this.sleep(pauseMs);
    }
  }

  /** A stream to the preferred member; it ends with an error when that member loses its leader. */
  async stream(
    service: 'Watch' | 'Lease',
    method: 'watch' | 'leaseKeepAlive',
  ): Promise<ClientDuplexStream<object, object>> {
    const metadata = await this.#metadata();
    metadata.set('hasleader', 'true');
    if (this.#closed) throw closedError();
    const member = this.#members[this.#preferred] as Member;
    const stub = stubOf(member, service, 'streams');
    const stream = (stub[method] as Stream).call(stub, metadata);
    this.#pending.add(stream);
    stream.once('close', () => this.#pending.delete(stream));
    stream.once('end', () => this.#pending.delete(stream));
    stream.on('error', () => this.#pending.delete(stream));
    return stream;
  }

  /**
   * Prolongs a lease; returns its time to live in seconds, 0 when it has expired. One attempt.
   *
   * @throws when no member answers within `timeoutMs`; the next attempt goes to another.
   */
  async keepAlive(lease: string, timeoutMs: number): Promise<number> {
    const member = this.#preferred;
    const stream = await this.stream('Lease', 'leaseKeepAlive');
    try {
      return await new Promise((resolve, reject) => {
        const timer = this.#io.timers.after(timeoutMs, () => reject(new Error('no answer')));
        const fail = (error?: Error): void => {
          timer.cancel();
          reject(error ?? new Error('the stream ended'));
        };
        stream.on('error', fail);
        stream.on('end', fail);
        stream.on('data', (answer: { TTL: string }) => {
          timer.cancel();
          resolve(Number(answer.TTL));
        });
        stream.write({ ID: lease });
      });
    } catch (error) {
      this.#leave(member);
      throw error;
    } finally {
      stream.cancel();
    }
  }

  /** Every member's status; `undefined` for one that does not answer within `timeoutMs`. */
  statuses(timeoutMs: number): Promise<(StatusResponse | undefined)[]> {
    return Promise.all(
      this.#members.map((_, member) =>
        this.call('status', {}, { member, attemptTimeoutMs: timeoutMs, timeoutMs }).catch(
          () => undefined,
        ),
      ),
    );
  }

  /** Turns to the member that leads, which saves etcd the forwarding. */
  async preferLeader(): Promise<void> {
    if (this.#members.length < 2) return;
    const statuses = await this.statuses(500);
    const leader = statuses.findIndex(
      (status) => status !== undefined && status.leader === status.header.member_id,
    );
    if (leader >= 0) this.#preferred = leader;
  }

  /** Resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#io.timers.after(delayMs, resolve);
    });
  }

  /** Ends all calls and streams. */
  close(): void {
    this.#closed = true;
    for (const call of this.#pending) call.cancel();
    for (const member of this.#members) closeChannels(member);
  }

  async #attempt<Name extends CallName>(
    member: number,
    name: Name,
    request: Calls[Name]['request'],
    timeoutMs: number,
  ): Promise<Calls[Name]['response']> {
    const metadata = name === 'authenticate' ? new Metadata() : await this.#metadata();
    if (this.#closed) throw closedError();
    const stub = stubOf(
      this.#members[member % this.#members.length] as Member,
      serviceOf[name],
      'calls',
    );
    const deadline = this.#io.clock.nowMs() + timeoutMs;
    return new Promise((resolve, reject) => {
      const call = (stub[name] as Unary).call(
        stub,
        request,
        metadata,
        { deadline },
        (error, response) => {
          this.#pending.delete(call);
          if (error) reject(error);
          else resolve(response as Calls[Name]['response']);
        },
      );
      this.#pending.add(call);
    });
  }

  async #metadata(): Promise<Metadata> {
    const metadata = new Metadata();
    const who = this.#settings.credentials;
    if (who !== undefined) {
      this.#token ??= this.call('authenticate', { name: who.user, password: who.password }).then(
        (answer) => answer.token,
      );
      const asked = this.#token;
      try {
        metadata.set('token', await asked);
      } catch (error) {
        if (this.#token === asked) this.#token = undefined;
        throw error;
      }
    }
    return metadata;
  }

  #leave(member: number): void {
    // Many calls fail together: only the first one moves on.
    if (member !== this.#preferred) return;
    this.#preferred = (member + 1) % this.#members.length;
    if (this.#leaderSearch) return;
    this.#leaderSearch = true;
    this.#io.timers.after(2000, () => {
      this.#leaderSearch = false;
      if (!this.#closed) void this.preferLeader();
    });
  }
}

function newMember(endpoint: string, security: ChannelCredentials): Member {
  const open = (): Channel => new Channel(endpoint, security, channelOptions);
  return { endpoint, channels: { calls: open(), streams: open() }, stubs: new Map() };
}

function closeChannels({ channels }: Member): void {
  channels.calls.close();
  channels.streams.close();
}

function stubOf(member: Member, service: ServiceName, channel: 'calls' | 'streams'): Stub {
  let stub = member.stubs.get(`${service}/${channel}`);
  if (stub === undefined) {
    const Service = etcdServices()[service];
    const made = new Service(member.endpoint, credentials.createInsecure(), {
      channelOverride: member.channels[channel],
    });
    stub = made as unknown as Stub;
    member.stubs.set(`${service}/${channel}`, stub);
  }
  return stub;
}

function refused(name: string, cause: unknown): DaybookError {
  if (isDaybookError(cause)) return cause;
  return new DaybookError('INTERNAL', `etcd refused ${name}: ${textOf(cause)}`, { cause });
}

function closedError(): DaybookError {
  return new DaybookError('CLOSED', 'the log is closed');
}

function pem(bytes: Uint8Array | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.from(bytes);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
