import type { ServiceError } from '@grpc/grpc-js';
import { DaybookError, isDaybookError } from '../../base/index.ts';
import type { Io } from '../../io/index.ts';
import type { CallName, Calls, StatusResponse } from './etcd-api.ts';
import { type CallVerdict, spaceExhausted, verdictOf } from './grpc-errors.ts';
import { grpcMembers } from './grpc-member.ts';
import type { ConnectMember, Member, MemberStream } from './member.ts';
import type { Settings } from './options.ts';

/** The part of the outside world that the log on etcd needs. */
export interface EtcdIo extends Pick<Io, 'clock' | 'timers' | 'random'> {
  /** Connects to members of etcd; gRPC when left out. The simulator brings a model of etcd. */
  readonly connectMember?: ConnectMember;
}

/** What {@link UnitClient.call} may be told. */
export interface CallOptions {
  /** Time for one member's answer, and for all attempts together; milliseconds. */
  readonly attemptTimeoutMs?: number;
  readonly timeoutMs?: number;
  /** Asks this member only. */
  readonly member?: number;
  /** Does not ask again. */
  readonly once?: boolean;
}

/**
 * Connections to the members of one etcd cluster. Asks one member, the leader where it can, and
 * turns to another when that one does not answer. Every call may reach etcd more than once: the
 * callers' requests are such that this does no harm.
 */
export class UnitClient {
  readonly #io: EtcdIo;
  readonly #settings: Settings;
  readonly #connect: ConnectMember;
  #members: readonly Member[];
  #preferred = 0;
  #leaderSearch = false;
  #token: Promise<string> | undefined;
  /** When the first of the calls failed since which none was answered. */
  #silentSinceMs: number | undefined;
  #closed = false;

  constructor(io: EtcdIo, settings: Settings, endpoints: readonly string[]) {
    this.#io = io;
    this.#settings = settings;
    this.#connect = io.connectMember ?? grpcMembers(io.clock, settings.tls);
    this.#members = endpoints.map((endpoint) => this.#connect(endpoint));
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
        before.find((member) => member.endpoint === endpoint) ?? this.#connect(endpoint),
    );
    this.#preferred = 0;
    for (const member of before) {
      if (!this.#members.includes(member)) member.close();
    }
  }

  /**
   * How long calls have been made and none was answered, milliseconds; 0: the last one was. A lone
   * member answers for itself only, so {@link UnitClient.status} does not count.
   */
  get silentMs(): number {
    if (this.#silentSinceMs === undefined) return 0;
    return this.#io.clock.monotonicMs() - this.#silentSinceMs;
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
        const timeoutMs = Math.min(attemptMs, Math.max(leftMs, 1));
        const answer = await this.#attempt(member, name, request, timeoutMs);
        if (options.member === undefined) this.#silentSinceMs = undefined;
        return answer;
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
      if (verdict === 'elsewhere' && options.member === undefined) {
        this.#silentSinceMs ??= clock.monotonicMs();
        this.#leave(member);
      }
      const pauseMs = Math.min(10 * 2 ** attempt, 200) * (0.5 + this.#io.random.number());
      if (options.once || clock.monotonicMs() + pauseMs >= deadlineMs) {
        const endpoints = this.endpoints.join(',');
        const message = `no answer from etcd at ${endpoints}, of which most must run, to ${name}: ${textOf(cause)}`;
        throw new DaybookError('TIMEOUT', message, {
          details: { endpoints },
          cause,
        });
      }
      await this.sleep(pauseMs);
    }
  }

  /** A stream to the preferred member; it ends with an error when that member loses its leader. */
  async stream(method: 'watch' | 'leaseKeepAlive'): Promise<MemberStream> {
    const token = await this.#authentication();
    if (this.#closed) throw closedError();
    return (this.#members[this.#preferred] as Member).stream(method, token);
  }

  /**
   * Prolongs a lease; returns its time to live in seconds, 0 when it has expired. One attempt.
   *
   * @throws when no member answers within `timeoutMs`; the next attempt goes to another.
   */
  async keepAlive(lease: string, timeoutMs: number): Promise<number> {
    const member = this.#preferred;
    const stream = await this.stream('leaseKeepAlive');
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

  /** One member's status; `undefined` when it does not answer within `timeoutMs`. */
  status(member: number, timeoutMs: number): Promise<StatusResponse | undefined> {
    const options = { member, attemptTimeoutMs: timeoutMs, timeoutMs };
    return this.call('status', {}, options).catch(() => undefined);
  }

  /** Every member's {@link UnitClient.status}. */
  statuses(timeoutMs: number): Promise<(StatusResponse | undefined)[]> {
    return Promise.all(this.#members.map((_, member) => this.status(member, timeoutMs)));
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
    for (const member of this.#members) member.close();
  }

  async #attempt<Name extends CallName>(
    member: number,
    name: Name,
    request: Calls[Name]['request'],
    timeoutMs: number,
  ): Promise<Calls[Name]['response']> {
    const token = name === 'authenticate' ? undefined : await this.#authentication();
    if (this.#closed) throw closedError();
    const asked = this.#members[member % this.#members.length] as Member;
    return asked.call(name, request, { token, timeoutMs });
  }

  async #authentication(): Promise<string | undefined> {
    const who = this.#settings.credentials;
    if (who === undefined) return undefined;
    this.#token ??= this.call('authenticate', { name: who.user, password: who.password }).then(
      (answer) => answer.token,
    );
    const asked = this.#token;
    try {
      return await asked;
    } catch (error) {
      if (this.#token === asked) this.#token = undefined;
      throw error;
    }
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

function refused(name: string, cause: unknown): DaybookError {
  if (isDaybookError(cause)) return cause;
  return new DaybookError('INTERNAL', `etcd refused ${name}: ${textOf(cause)}`, { cause });
}

function closedError(): DaybookError {
  return new DaybookError('CLOSED', 'the log is closed');
}

/** Without what gRPC says around the cause. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { details = error.message } = error as Partial<ServiceError>;
  return details
    .replace(/^No connection established\. Last error: (Error: )?/, '')
    .replace(/\.? *Resolution note: *$/, '');
}
