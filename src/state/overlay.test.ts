import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareBytestrings } from '../base/index.ts';
import { asPosition } from '../model/index.ts';
import { Overlay } from './overlay.ts';
import type { Row, StateView } from './state.ts';

/** A base that takes over what an overlay is told to drop. */
class Base implements StateView {
  readonly rows = new Map<string, Row>();

  get(key: string): Row | undefined {
    return this.rows.get(key);
  }

  range(start: string, end: string, limit = Number.POSITIVE_INFINITY): Row[] {
    return [...this.rows.values()]
      .filter(({ key }) => key >= start && (end === '' || key < end))
      .sort((left, right) => compareBytestrings(left.key, right.key))
      .slice(0, limit);
  }

  put(key: string, value: string | undefined, version: number): void {
    if (value === undefined) this.rows.delete(key);
    else this.rows.set(key, { key, value, version: asPosition(version) });
  }
}

const key = fc.constantFrom('a', 'b', 'ba', 'c', 'd', 'e', 'f\xff', 'g');
const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('set'),
      key,
      value: fc.option(fc.string(), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seal') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('dropSealed') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('dropUpTo'), back: fc.nat(5) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('range'),
      start: fc.oneof(key, fc.constant('')),
      end: fc.oneof(key, fc.constant('')),
      limit: fc.option(fc.nat(4), { nil: undefined }),
    }),
  },
);

describe('overlay', () => {
  it('equals a naive model, whatever is sealed and dropped', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(key, fc.string())),
        fc.array(action as fc.Arbitrary<Record<string, unknown>>, { maxLength: 40 }),
        (initial, actions) => {
          const base = new Base();
          const model = new Base();
          initial.forEach(([at, value]) => {
            base.put(at, value, 0);
            model.put(at, value, 0);
          });
          const overlay = new Overlay(base);
          const log: { key: string; value: string | undefined; version: number }[] = [];
          let sealed = 0;
          let settled = 0;
          const settle = (count: number): void => {
            for (const write of log.slice(settled, count))
              base.put(write.key, write.value, write.version);
            settled = Math.max(settled, count);
          };
          for (const { kind, ...rest } of actions) {
            if (kind === 'set') {
              const { key: at, value } = rest as { key: string; value: string | undefined };
              const version = log.length + 1;
              log.push({ key: at, value, version });
              overlay.set({ key: at, value, version: asPosition(version) });
              model.put(at, value, version);
            } else if (kind === 'seal') {
              const writes = new Map([...overlay.seal()].map((write) => [write.key, write.value]));
              // All that the base lacks, in its latest form.
              for (const [at, value] of writes) expect(model.get(at)?.value).toBe(value);
              sealed = log.length;
            } else if (kind === 'dropSealed') {
              settle(sealed);
              overlay.dropSealed();
            } else if (kind === 'dropUpTo') {
              const count = Math.max(0, log.length - (rest.back as number));
              settle(count);
              overlay.dropUpTo(asPosition(count + 1));
              expect(overlay.size).toBeLessThanOrEqual(
                new Set(log.slice(count).map((write) => write.key)).size * 3,
              );
            } else {
              const { start, end, limit } = rest as { start: string; end: string; limit?: number };
              const plain = (rows: readonly Row[]): unknown =>
                rows.map(({ key: at, value, version }) => [at, value, version]);
              expect(plain(overlay.range(start, end, limit))).toEqual(
                plain(model.range(start, end, limit)),
              );
            }
            for (const at of ['a', 'b', 'ba', 'g']) {
              expect(overlay.get(at)?.value).toBe(model.get(at)?.value);
              expect(overlay.version(at)).toBe(model.get(at)?.version);
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('keeps ranges right in a large overlay that grows on', () => {
    const base = new Base();
    const overlay = new Overlay(base);
    const at = (number: number): string => `k${String(number).padStart(6, '0')}`;
    for (let number = 0; number < 3000; number += 2) {
      overlay.set({ key: at(number), value: 'v', version: asPosition(number) });
    }
    expect(overlay.range(at(10), at(20)).map((row) => row.key)).toEqual(
      [10, 12, 14, 16, 18].map(at),
    );
    overlay.set({ key: at(13), value: 'v', version: asPosition(9000) });
    overlay.set({ key: at(14), value: undefined, version: asPosition(9001) });
    overlay.seal();
    overlay.set({ key: at(15), value: 'v', version: asPosition(9002) });
    expect(overlay.range(at(10), at(20)).map((row) => row.key)).toEqual(
      [10, 12, 13, 15, 16, 18].map(at),
    );
  });
});
