import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import {
  FollowerCore,
  type FollowerEffect,
  type FollowerEvent,
  type SinkPosition,
} from './follower-core.ts';
import type { Page } from './page.ts';

/*
 * A follower between a log that only grows and a system that keeps a value for every key. Answers
 * are lost, late, repeated and out of order; either side crashes. At every moment the system must
 * equal the ledger's state at its cursor, and in the end it must have all.
 */

interface Write {
  readonly key: number;
  readonly value: number;
}

class World {
  readonly log: Write[] = [];
  /** The log before it is gone. */
  trimmed = 0;
  at: SinkPosition | undefined;
  rows = new Map<number, number>();
  confirmed = 0;
  nowMs = 0;
  core = new FollowerCore({ retryMinMs: 1, retryMaxMs: 4 });
  /** Answers on their way. */
  pending: { event: FollowerEvent; core: FollowerCore }[] = [];
  stopped: DaybookError | undefined;

  state(position: number): Map<number, number> {
    const state = new Map<number, number>();
    for (const { key, value } of this.log.slice(0, position)) {
      if (value === 0) state.delete(key);
      else state.set(key, value);
    }
    return state;
  }

  feed(event: FollowerEvent): void {
    for (const effect of this.core.step(event, this.nowMs)) this.#do(effect);
  }

  #answer(event: FollowerEvent): void {
    this.pending.push({ event, core: this.core });
  }

  #do(effect: FollowerEffect): void {
    switch (effect.type) {
      case 'open':
        this.#answer({ type: 'opened', at: this.at });
        break;
      case 'pull': {
        const { position } = effect.at;
        if (position < this.trimmed) {
          const details = { reason: 'log-trimmed' };
          const error = new DaybookError('FOLLOWER_REFILL', 'trimmed', { details });
          this.#answer({ type: 'pullFailed', error });
        } else this.#answer({ type: 'pulled', page: this.page(position, 3) });
        break;
      }
      case 'apply':
        this.#answer({ type: 'applied', position: effect.page.next });
        // The system does it now or, when the answer is lost, did it all the same.
        this.apply(effect.page);
        break;
      case 'fill':
        this.rows = this.state(this.log.length);
        this.at = { position: this.log.length, cursor: String(this.log.length) };
        this.#answer({ type: 'filled', at: this.at });
        break;
      case 'confirm':
        this.confirmed = Math.max(this.confirmed, effect.position);
        this.#answer({ type: 'confirmed', position: this.confirmed });
        break;
      case 'stopped':
        this.stopped = effect.error;
        break;
      case 'wake':
        break;
    }
  }

  page(from: number, count: number): Page {
    const next = Math.min(this.log.length, from + count);
    return { from, next, cursor: String(next), tail: this.log.length, changes: [] };
  }

  apply(page: Page): void {
    expect(page.from).toBe(this.at?.position);
    for (const { key, value } of this.log.slice(page.from, page.next)) {
      if (value === 0) this.rows.delete(key);
      else this.rows.set(key, value);
    }
    this.at = { position: page.next, cursor: page.cursor };
  }

  check(): void {
    if (this.at !== undefined) expect(this.rows).toEqual(this.state(this.at.position));
  }
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('write' as const), key: fc.nat(4), value: fc.nat(3) }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('deliver' as const), which: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('repeat' as const), which: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail' as const), which: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('trim' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('tick' as const) }) },
);

const outage = new DaybookError('SINK_UNAVAILABLE', 'outage');

function failureOf(event: FollowerEvent): FollowerEvent {
  switch (event.type) {
    case 'opened':
      return { type: 'openFailed', error: outage };
    case 'pulled':
      return { type: 'pullFailed', error: new DaybookError('PEER_UNREACHABLE', 'x') };
    case 'applied':
      return { type: 'applyFailed', error: outage };
    case 'filled':
      return { type: 'fillFailed', error: outage };
    case 'confirmed':
      return { type: 'confirmFailed' };
    case 'openFailed':
    case 'pullFailed':
    case 'applyFailed':
    case 'fillFailed':
    case 'confirmFailed':
    case 'tick':
    case 'stop':
      return event;
  }
}

describe('follower', () => {
  it('holds the ledger’s state at its cursor, whatever happens, and ends with all of it', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const world = new World();
        world.feed({ type: 'tick' });
        for (const one of steps) {
          world.nowMs++;
          const at = 'which' in one ? Math.min(one.which, world.pending.length - 1) : -1;
          const found = at < 0 ? undefined : world.pending[at];
          const take = (): void => {
            world.pending.splice(at, 1);
          };
          switch (one.do) {
            case 'write':
              world.log.push({ key: one.key, value: one.value });
              break;
            case 'tick':
              world.feed({ type: 'tick' });
              break;
            case 'trim':
              world.trimmed = world.log.length;
              break;
            case 'crash':
              world.core = new FollowerCore({ retryMinMs: 1, retryMaxMs: 4 });
              world.pending = [];
              world.feed({ type: 'tick' });
              break;
            case 'fail':
              // A lost answer is noticed in time, as a failure; what it answers was done.
              if (found !== undefined) {
                take();
                world.feed(failureOf(found.event));
              }
              break;
            case 'repeat':
              if (found !== undefined) {
                take();
                world.feed(found.event);
                world.feed(found.event);
              }
              break;
            case 'deliver':
              if (found !== undefined) {
                take();
                world.feed(found.event);
              }
              break;
          }
          world.check();
          expect(world.stopped).toBeUndefined();
        }
        // Quiet: everything arrives.
        for (let rounds = 0; rounds < 2_000; rounds++) {
          world.nowMs += 5;
          const next = world.pending.shift();
          world.feed(next?.event ?? { type: 'tick' });
          world.check();
          const done = world.at?.position === world.log.length;
          if (done && world.confirmed === world.log.length) break;
        }
        expect(world.at?.position).toBe(world.log.length);
        expect(world.rows).toEqual(world.state(world.log.length));
        expect(world.confirmed).toBe(world.log.length);
      }),
      { numRuns: 400 },
    );
  });

  it('pulls the next page while one is applied', () => {
    const core = new FollowerCore();
    const types = (event: FollowerEvent) => core.step(event, 0).map(({ type }) => type);
    expect(types({ type: 'tick' })).toEqual(['open']);
    expect(types({ type: 'opened', at: { position: 0, cursor: 'a' } })).toEqual([
      'pull',
      'confirm',
    ]);
    const page = (from: number): FollowerEvent => ({
      type: 'pulled',
      page: { from, next: from + 1, cursor: 'b', tail: 9, changes: [] },
    });
    expect(types(page(0))).toEqual(['apply', 'pull']);
    // One waits; no more are asked for.
    expect(types(page(1))).toEqual([]);
    expect(types({ type: 'applied', position: 1 })).toEqual(['apply', 'pull']);
  });

  it('is not stopped for ever by a timer that is early', () => {
    const core = new FollowerCore({ retryMinMs: 100 });
    core.step({ type: 'tick' }, 0);
    core.step({ type: 'opened', at: { position: 0, cursor: '' } }, 0);
    core.step({ type: 'confirmed', position: 0 }, 0);
    const error = new DaybookError('PEER_UNREACHABLE', 'x');
    expect(core.step({ type: 'pullFailed', error }, 0)).toEqual([{ type: 'wake', atMs: 100 }]);
    expect(core.step({ type: 'tick' }, 99.7)).toEqual([{ type: 'wake', atMs: 100 }]);
    expect(core.step({ type: 'tick' }, 100.2)).toMatchObject([{ type: 'pull' }]);
  });

  it('ends with an error that waiting does not help', () => {
    const core = new FollowerCore();
    core.step({ type: 'tick' }, 0);
    const error = new DaybookError('ACCESS_DENIED', 'no');
    core.step({ type: 'opened', at: { position: 0, cursor: '' } }, 0);
    expect(core.step({ type: 'pullFailed', error }, 0)).toEqual([{ type: 'stopped', error }]);
    expect(core.step({ type: 'tick' }, 1e9)).toEqual([]);
  });
});
