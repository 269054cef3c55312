import type { Io, Timer } from '../../io/index.ts';

/** Clock, timers and randomness for tests: time passes only when nothing else can happen. */
export class VirtualIo implements Pick<Io, 'clock' | 'timers' | 'random'> {
  #nowMs = 0;
  #seed: number;
  #count = 0;
  readonly #pending = new Map<number, { atMs: number; callback: () => void }>();

  constructor(seed: number) {
    this.#seed = seed >>> 0;
  }

  readonly clock = {
    nowMs: (): number => 1_700_000_000_000 + Math.floor(this.#nowMs),
    monotonicMs: (): number => this.#nowMs,
  };

  readonly timers = {
    after: (delayMs: number, callback: () => void): Timer => {
      const id = this.#count++;
      this.#pending.set(id, { atMs: this.#nowMs + Math.max(0, delayMs), callback });
      return { cancel: () => this.#pending.delete(id) };
    },
    soon: (callback: () => void): void => {
      this.timers.after(0, callback);
    },
  };

  readonly random = {
    bytes: (count: number): Buffer =>
      Buffer.from(Array.from({ length: count }, () => Math.floor(this.random.number() * 256))),
    number: (): number => {
      this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
      return this.#seed / 2 ** 32;
    },
  };

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.timers.after(delayMs, resolve);
    });
  }

  /** Lets time pass until `done` settles; throws when nothing is left to happen before that. */
  async run<T>(done: Promise<T>): Promise<T> {
    let settled = false;
    const watch = (): void => {
      settled = true;
    };
    done.then(watch, watch);
    for (;;) {
      // Long chains of promises need several rounds.
      for (let round = 0; round < 3; round++) await new Promise((go) => setImmediate(go));
      if (settled) return done;
      let next: [number, { atMs: number; callback: () => void }] | undefined;
      for (const pending of this.#pending) {
        if (next === undefined || pending[1].atMs < next[1].atMs) next = pending;
      }
      if (next === undefined) throw new Error('nothing is left to happen');
      this.#pending.delete(next[0]);
      this.#nowMs = Math.max(this.#nowMs, next[1].atMs);
      next[1].callback();
    }
  }
}
