import { expect, test } from 'vitest';
import { PagedBytes, PagePool } from './paged-bytes.ts';
import { chanceOf } from './random.ts';

const size = 100_000;

/** A stretch anywhere; now and then one that reaches over pages. */
function stretch(chance: ReturnType<typeof chanceOf>): { offset: number; length: number } {
  const offset = chance.below(size);
  return { offset, length: Math.min(size - offset, chance.below(chance.pick([10, 50_000]))) };
}

test('holds what a buffer holds', () => {
  const chance = chanceOf(7);
  const pool = new PagePool();
  const paged = [new PagedBytes(pool), new PagedBytes(pool)] as const;
  const plain = [Buffer.alloc(size), Buffer.alloc(size)] as const;
  for (let step = 0; step < 400; step++) {
    const from = chance.below(2) as 0 | 1;
    const to = (1 - from) as 0 | 1;
    const { offset, length } = stretch(chance);
    switch (chance.below(6)) {
      case 0:
      case 1: {
        const bytes = Buffer.alloc(length, 1 + chance.below(255));
        paged[to].write(bytes, offset);
        bytes.copy(plain[to], offset);
        break;
      }
      case 2: {
        const start = chance.below(size - length);
        paged[to].copy(paged[from], start, length, offset);
        plain[from].copy(plain[to], offset, start, start + length);
        break;
      }
      case 3:
        if (chance.happens(0.2)) {
          paged[to].clear(offset);
          plain[to].fill(0, offset);
        }
        break;
      case 4:
        if (chance.happens(0.2)) {
          paged[to].become(paged[from]);
          plain[from].copy(plain[to]);
        }
        break;
      default:
        paged[to].flip(offset, 4);
        plain[to][offset] = (plain[to][offset] as number) ^ 4;
    }
    const seen = Buffer.alloc(length, 0xff);
    paged[to].read(seen, offset);
    expect(seen.equals(plain[to].subarray(offset, offset + length))).toBe(true);
    expect(paged[to].head(size).equals(plain[to])).toBe(true);
  }
});

test('pages of a world that is over begin as zeros in the next one', () => {
  const first = new PagePool();
  new PagedBytes(first).write(Buffer.alloc(size, 7), 0);
  first.release();
  const next = new PagedBytes(new PagePool());
  next.write(Buffer.of(1), 50_000);
  const expected = Buffer.alloc(size);
  expected[50_000] = 1;
  expect(next.head(size).equals(expected)).toBe(true);
});
