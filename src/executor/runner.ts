import { ByteReader, ByteWriter, type ErrorCode, limits } from '../base/index.ts';
import type { Child, Io } from '../io/index.ts';
import {
  encodeBegin,
  encodeCalls,
  fromRunner,
  type RunnerCall,
  type RunnerSettings,
} from './frames.ts';
import { Numbered } from './numbered.ts';

/** Limits of a contract process; the defaults are in `limits`. */
export interface RunnerLimits {
  readonly contractCpuMsMax: number;
  readonly contractHeapMiBMax: number;
  readonly contractBufferBytesMax: number;
  readonly contractCallsInFlightMax: number;
}

/** What the runner tells the executor. */
export interface RunnerEvents<Call extends RunnerCall> {
  /** A process is there and waits for {@link Runner.begin}. */
  onReady(): void;
  /** Results came; the reader stands behind the kind. */
  onResults(reader: ByteReader): void;
  onHistoryRequest(reader: ByteReader): void;
  /** The process is gone. Its unanswered calls will be executed again after the next `begin`. */
  onDown(reason: string): void;
  /** This call ended the process: it is answered with the error and not executed again. */
  onBlamed(call: Call, code: ErrorCode, message: string): void;
  /** There is room for calls again. */
  onRoom(): void;
}

const watchIntervalMs = 50;
const restartDelayMsMin = 50;
const restartDelayMsMax = 5_000;
/** What a process takes besides contracts: writes that are not flushed or not settled, frames. */
const ownHeapMiB = 192;
/** The program's own memory outside the heap. */
const ownResidentBytes = 128 * 1024 * 1024;

/**
 * Keeps one contract process alive and finds out who ended it. From outside, since a contract can
 * take the whole process with it: an endless loop (CPU time without an answer), memory, a crash.
 *
 * Many calls may be unanswered when a process ends. In the next one they run *one at a time*; the
 * call that ends a process on its own is to blame, the others get their results.
 */
export class Runner<Call extends RunnerCall> {
  readonly #io: Pick<Io, 'processes' | 'timers'>;
  readonly #events: RunnerEvents<Call>;
  readonly #limits: RunnerLimits;
  readonly #module: URL;
  readonly #outstanding = new Numbered<Call>();
  /** Calls that were unanswered when the process ended: to be run one at a time. */
  #suspects: Call[] = [];
  /** A suspect runs, and nothing else. */
  #alone = false;
  #child: Child | undefined;
  #begun = false;
  #closed = false;
  /** Why we killed the process, if we did. */
  #sentence: ErrorCode | undefined;
  #restartDelayMs = restartDelayMsMin;
  #cpuMsAtProgress: number | undefined;
  #progress = false;
  #restarts = 0;
  readonly #writer = new ByteWriter(64 * 1024);

  constructor(options: {
    readonly io: Pick<Io, 'processes' | 'timers'>;
    readonly module: URL;
    readonly limits: RunnerLimits;
    readonly events: RunnerEvents<Call>;
  }) {
    this.#io = options.io;
    this.#events = options.events;
    this.#limits = options.limits;
    this.#module = options.module;
  }

  /** How many times a process was started after the first. */
  get restarts(): number {
    return this.#restarts;
  }

  /** How many more calls {@link Runner.send} takes now. */
  get room(): number {
    if (!this.#begun || this.#alone || this.#suspects.length > 0) return 0;
    return Math.max(0, this.#limits.contractCallsInFlightMax - this.#outstanding.size);
  }

  /** Calls that are not answered. */
  get unanswered(): number {
    return this.#outstanding.size + this.#suspects.length;
  }

  /** Starts the first process. */
  start(): void {
    this.#spawn();
    this.#watch();
  }

  /** Lets the process begin, then takes the suspects up. */
  begin(settings: RunnerSettings, applied: readonly Uint8Array[]): void {
    const writer = new ByteWriter(1024);
    encodeBegin(writer, settings);
    this.#child?.connection.send([writer.view()]);
    this.#child?.connection.send(applied);
    this.#begun = true;
    this.#nextSuspect();
    if (this.room > 0) this.#events.onRoom();
  }

  /** Sends calls; at most {@link Runner.room}, but for a unit that must stay together. */
  send(calls: readonly Call[]): void {
    for (const call of calls) this.#outstanding.add(call.call, call);
    this.#writer.reset();
    encodeCalls(this.#writer, calls);
    this.#child?.connection.send([this.#writer.view()]);
  }

  /** Sends a frame that needs no answer. */
  tell(parts: readonly Uint8Array[]): void {
    if (this.#begun) this.#child?.connection.send(parts);
  }

  /** The call of this number has its result. @returns `undefined` when nobody waits for it. */
  answered(number: number): Call | undefined {
    return this.#outstanding.take(number);
  }

  /** Ends the process; its calls are not answered. */
  close(): void {
    this.#closed = true;
    this.#outstanding.clear();
    this.#child?.kill();
  }

  #spawn(): void {
    const { contractHeapMiBMax } = this.#limits;
    const child = this.#io.processes.spawn(this.#module, {
      nodeOptions: [
        `--max-old-space-size=${contractHeapMiBMax + ownHeapMiB}`,
        '--max-semi-space-size=32',
      ],
      heapFull: `contract process: out of memory (contractHeapMiBMax is ${contractHeapMiBMax}); it is started again`,
    });
    this.#child = child;
    this.#sentence = undefined;
    this.#cpuMsAtProgress = undefined;
    child.connection.onFrame((bytes) => {
      if (child === this.#child) this.#onFrame(bytes);
    });
    child.connection.onClose(() => undefined);
    child.onExit((reason) => this.#onExit(reason));
  }

  #onFrame(bytes: Buffer): void {
    const reader = new ByteReader(bytes, 'contract process frame');
    const kind = reader.u8();
    this.#progress = true;
    if (kind === fromRunner.ready) {
      this.#events.onReady();
    } else if (kind === fromRunner.history) {
      this.#events.onHistoryRequest(reader);
    } else {
      this.#restartDelayMs = restartDelayMsMin;
      this.#events.onResults(reader);
      if (this.#outstanding.size === 0) {
        this.#alone = false;
        this.#nextSuspect();
      }
      if (this.room > 0) this.#events.onRoom();
    }
  }

  /** Runs the first suspect; goes on once it is answered. */
  #nextSuspect(): void {
    if (this.#outstanding.size > 0) return;
    const suspect = this.#suspects.shift();
    if (suspect === undefined) return;
    this.#alone = true;
    this.send([suspect]);
  }

  #onExit(reason: string): void {
    this.#child = undefined;
    this.#begun = false;
    if (this.#closed) return;
    const code = this.#sentence ?? codeOf(reason);
    const unanswered = this.#outstanding.values();
    this.#outstanding.clear();
    // Killed by us over a single call, or ended while a suspect ran alone: there is no doubt.
    const [only] = unanswered;
    const certain = unanswered.length === 1 && (this.#alone || this.#sentence !== undefined);
    this.#alone = false;
    if (certain && only !== undefined) {
      this.#events.onBlamed(only, code, messageOf(code, this.#limits, reason));
    } else {
      this.#suspects = [...unanswered, ...this.#suspects];
    }
    this.#events.onDown(reason);
    this.#restarts++;
    const delayMs = unanswered.length > 0 ? 0 : this.#restartDelayMs;
    this.#restartDelayMs = Math.min(this.#restartDelayMs * 2, restartDelayMsMax);
    this.#io.timers.after(delayMs, () => {
      if (!this.#closed) this.#spawn();
    });
  }

  #watch(): void {
    this.#io.timers.after(watchIntervalMs, () => {
      if (this.#closed) return;
      const child = this.#child;
      if (child !== undefined && this.#outstanding.size > 0) this.#check(child);
      else this.#cpuMsAtProgress = undefined;
      this.#watch();
    });
  }

  #check(child: Child): void {
    const residentBytes = child.residentBytes() ?? 0;
    const { contractHeapMiBMax, contractBufferBytesMax, contractCpuMsMax } = this.#limits;
    const residentBytesMax =
      ownResidentBytes + (contractHeapMiBMax + ownHeapMiB) * 1024 * 1024 + contractBufferBytesMax;
    if (residentBytes > residentBytesMax) {
      this.#kill(child, 'CONTRACT_MEMORY');
      return;
    }
    // CPU time, not time: on a busy machine a call may have to wait for its turn.
    const cpuMs = child.cpuMs() ?? 0;
    if (this.#progress || this.#cpuMsAtProgress === undefined) {
      this.#progress = false;
      this.#cpuMsAtProgress = cpuMs;
    } else if (cpuMs - this.#cpuMsAtProgress > contractCpuMsMax) {
      this.#kill(child, 'CONTRACT_TIMEOUT');
    }
  }

  #kill(child: Child, sentence: ErrorCode): void {
    this.#sentence = sentence;
    child.kill();
  }
}

/** The limits of `base/limits.ts`. */
export const runnerLimits: RunnerLimits = {
  contractCpuMsMax: limits.contractCpuMsMax,
  contractHeapMiBMax: limits.contractHeapMiBMax,
  contractBufferBytesMax: limits.contractBufferBytesMax,
  contractCallsInFlightMax: limits.contractCallsInFlightMax,
};

/** V8 and the C library end a process without memory by SIGABRT, SIGTRAP or SIGILL. */
function codeOf(reason: string): 'CONTRACT_MEMORY' | 'CONTRACT_CRASHED' {
  return /SIGABRT|SIGTRAP|SIGILL|code 13[234]/.test(reason)
    ? 'CONTRACT_MEMORY'
    : 'CONTRACT_CRASHED';
}

function messageOf(code: ErrorCode, runnerLimits: RunnerLimits, reason: string): string {
  const { contractCpuMsMax, contractHeapMiBMax, contractBufferBytesMax } = runnerLimits;
  if (code === 'CONTRACT_TIMEOUT') {
    return `the call used more than ${contractCpuMsMax} ms of CPU time (contractCpuMsMax)`;
  }
  if (code === 'CONTRACT_MEMORY') {
    return `the call used more memory than contractHeapMiBMax (${contractHeapMiBMax}) and contractBufferBytesMax (${contractBufferBytesMax}) allow`;
  }
  return `the contract process ended while the call ran: ${reason}`;
}
