import type { Coverage, Happening } from './coverage.ts';
import { type Chance, chanceOf } from './random.ts';

/** How a run can fail; each has its exit code. */
export type FailureKind = 'crash' | 'liveness' | 'correctness';

/** Ends a run. */
export class SimulationFailure extends Error {
  readonly kind: FailureKind;

  constructor(kind: FailureKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** One run of a program on a simulated machine. When it dies, nothing calls it back any more. */
export interface SimProcess {
  readonly name: string;
  readonly machine: string;
  alive: boolean;
  /** It does nothing before this time; what happens to it meanwhile waits, in order. */
  pausedUntilUs: number;
  readonly parked: Event[];
  /** Added to the wall clock; may change at any time. */
  clockOffsetMs: number;
  /** Speed of its clocks; 1 is right. */
  readonly clockRate: number;
  /** Called once, by {@link World.kill}. */
  readonly onDeath: (() => void)[];
}

interface Event {
  readonly atUs: number;
  readonly order: number;
  readonly process: SimProcess | undefined;
  readonly kind: string;
  readonly run: () => void;
}

const startOfTimeMs = 1_800_000_000_000;
const eventsKept = 60;
/** More events than any honest program has at one instant. */
const eventsAtOneInstantMax = 2_000_000;
/** Immediates per turn of the real event loop; microtasks drain after each of them. */
const immediatesPerTurn = 64;

/**
 * Virtual time and all that happens in it, one event after the other. The next event runs only when
 * all promises that the last one settled have been followed up, so a seed fixes every interleaving.
 */
export class World {
  readonly chance: Chance;
  /** Called by who ran it, when nothing will happen in it any more. */
  readonly onEnd: (() => void)[] = [];
  #nowUs = 0;
  #order = 0;
  /** Binary heap by time, then order. */
  readonly #later: Event[] = [];
  /** Events of this instant, first in first out. */
  #now: Event[] = [];
  #nowAt = 0;
  #events = 0;
  #eventsAtInstant = 0;
  #hashLow = 0x811c_9dc5;
  #hashHigh = 0x1b87_3593;
  readonly #recent: string[] = [];
  readonly #coverage: Coverage = {};
  #failure: unknown;

  constructor(seed: number) {
    this.chance = chanceOf(seed);
  }

  /** Microseconds since the start. */
  get nowUs(): number {
    return this.#nowUs;
  }

  /** True wall-clock time, milliseconds since 1970. */
  get wallMs(): number {
    return startOfTimeMs + this.#nowUs / 1000;
  }

  get events(): number {
    return this.#events;
  }

  /** Two runs of the same seed have the same. */
  get traceHash(): string {
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
    return hex(this.#hashHigh) + hex(this.#hashLow);
  }

  /** The last noted events, oldest first. */
  get recent(): readonly string[] {
    return this.#recent;
  }

  spawn(machine: string, name: string): SimProcess {
    return {
      name,
      machine,
      alive: true,
      pausedUntilUs: 0,
      parked: [],
      clockOffsetMs: 0,
      clockRate: 1 + (this.chance.number() - 0.5) * 2e-4,
      onDeath: [],
    };
  }

  kill(process: SimProcess): void {
    if (!process.alive) return;
    process.alive = false;
    this.happened('process: killed');
    for (const listener of process.onDeath.splice(0)) listener();
  }

  /** Runs something after `delayUs`, unless the process is dead by then. */
  after(process: SimProcess | undefined, delayUs: number, kind: string, run: () => void): void {
    const atUs = this.#nowUs + Math.max(0, Math.ceil(delayUs));
    const event = { atUs, order: this.#order++, process, kind, run };
    if (atUs === this.#nowUs) this.#now.push(event);
    else this.#push(event);
  }

  /** Waits. */
  sleep(process: SimProcess | undefined, delayUs: number): Promise<void> {
    return new Promise((resolve) => this.after(process, delayUs, 'sleep', resolve));
  }

  /** Puts something into the trace: into its hash, and into what a failure prints. */
  note(text: string): void {
    this.#mix(text);
    this.#recent.push(`${(this.#nowUs / 1000).toFixed(3)} ms  ${text}`);
    if (this.#recent.length > eventsKept) this.#recent.shift();
  }

  /** Counts what seeds are to show; not part of the trace. */
  happened(what: Happening): void {
    this.#coverage[what] = (this.#coverage[what] ?? 0) + 1;
  }

  /** What happened so far, and how often. */
  get coverage(): Coverage {
    return this.#coverage;
  }

  /** Ends the run at this event. */
  fail(failure: unknown): void {
    this.#failure ??= failure;
  }

  /**
   * Lets things happen until `done` says so or virtual time is up.
   *
   * @throws what {@link World.fail} was given, or what an event threw (kind `crash`).
   */
  run(done: () => boolean, untilUs: number): Promise<'done' | 'time' | 'idle'> {
    return new Promise((resolve, reject) => {
      let over = false;
      const step = (last: boolean): void => {
        if (over) return;
        if (this.#failure !== undefined) {
          over = true;
          reject(this.#failure);
          return;
        }
        const event = done() ? 'done' : this.#next(untilUs);
        if (typeof event === 'string') {
          over = true;
          resolve(event);
          return;
        }
        this.#dispatch(event);
        if (last) turn();
      };
      const turn = (): void => {
        for (let at = 1; at <= immediatesPerTurn; at++) {
          setImmediate(step, at === immediatesPerTurn);
        }
      };
      turn();
    });
  }

  #next(untilUs: number): Event | 'time' | 'idle' {
    if (this.#nowAt < this.#now.length) {
      const event = this.#now[this.#nowAt++] as Event;
      if (this.#nowAt > 1024 && this.#nowAt * 2 > this.#now.length) {
        this.#now = this.#now.slice(this.#nowAt);
        this.#nowAt = 0;
      }
      if (++this.#eventsAtInstant > eventsAtOneInstantMax) {
        this.fail(
          new SimulationFailure('liveness', `no time passes: ${event.kind} again and again`),
        );
      }
      return event;
    }
    this.#now = [];
    this.#nowAt = 0;
    this.#eventsAtInstant = 0;
    const first = this.#later[0];
    if (first === undefined) return 'idle';
    if (first.atUs > untilUs) {
      this.#nowUs = untilUs;
      return 'time';
    }
    this.#pop();
    this.#nowUs = first.atUs;
    // The others of this instant come before what the first one causes at once.
    while (this.#later[0]?.atUs === first.atUs) this.#now.push(this.#pop());
    return first;
  }

  #dispatch(event: Event): void {
    const { process } = event;
    if (process !== undefined) {
      if (!process.alive) return;
      if (process.pausedUntilUs > this.#nowUs || process.parked.length > 0) {
        if (process.parked.length === 0) this.happened('process: paused');
        if (process.parked.push(event) === 1) this.#resumeLater(process);
        return;
      }
    }
    this.#events++;
    this.#mixEvent(event);
    try {
      event.run();
    } catch (error) {
      this.fail(
        error instanceof SimulationFailure
          ? error
          : new SimulationFailure('crash', `${process?.name ?? 'world'}: ${String(error)}`, error),
      );
    }
  }

  #resumeLater(process: SimProcess): void {
    this.after(undefined, process.pausedUntilUs - this.#nowUs, 'resume', () => {
      if (process.pausedUntilUs > this.#nowUs) this.#resumeLater(process);
      else this.#now.splice(this.#nowAt, 0, ...process.parked.splice(0));
    });
  }

  #mixEvent(event: Event): void {
    this.#mixNumber(event.atUs);
    this.#mixNumber(event.kind.length * 256 + event.kind.charCodeAt(0));
    const { process } = event;
    this.#mixNumber(process === undefined ? 0 : process.name.charCodeAt(process.name.length - 1));
  }

  #mix(text: string): void {
    for (let at = 0; at < text.length; at++) this.#mixNumber(text.charCodeAt(at));
  }

  #mixNumber(value: number): void {
    this.#hashLow = Math.imul(this.#hashLow ^ value, 0x0100_0193);
    this.#hashHigh = Math.imul((this.#hashHigh ^ value) + (this.#hashLow >>> 15), 0x85eb_ca6b);
  }

  #push(event: Event): void {
    const heap = this.#later;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent] as Event)) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event {
    const heap = this.#later;
    const first = heap[0] as Event;
    const last = heap.pop() as Event;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Event, heap[child] as Event))
        child++;
      if (!before(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function before(left: Event, right: Event): boolean {
  return left.atUs === right.atUs ? left.order < right.order : left.atUs < right.atUs;
}
