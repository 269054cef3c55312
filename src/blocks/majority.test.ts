import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareRoots, heightsToCompare, majorityOf, type RootClaim } from './majority.ts';

function claim(node: string, root: string, height = 7): RootClaim {
  return { node, height, blockHash: 'b', historyRoot: 'h', stateRoot: root };
}

describe('compareRoots', () => {
  test('three nodes: the one that differs from two is told so', () => {
    const own = claim('a', 'wrong');
    const verdict = compareRoots(own, [claim('b', 'right'), claim('c', 'right')], 3);
    expect(verdict).toEqual({
      kind: 'differs',
      height: 7,
      own,
      majority: claim('b', 'right'),
      nodes: ['b', 'c'],
    });
  });

  test('one of the two others is enough to be right', () => {
    expect(compareRoots(claim('a', 'right'), [claim('b', 'right'), claim('c', 'x')], 3)).toEqual({
      kind: 'agrees',
      height: 7,
    });
  });

  test.each([
    ['one against one', [claim('b', 'y')], 2],
    ['three opinions', [claim('b', 'y'), claim('c', 'z')], 3],
    ['two of five answer', [claim('b', 'y'), claim('c', 'y')], 5],
    ['nobody answers', [], 3],
    ['others speak of another height', [claim('b', 'y', 8), claim('c', 'y', 8)], 3],
    ['one node speaks twice', [claim('b', 'y'), claim('b', 'y')], 3],
  ])('%s: no majority, nobody is condemned', (_, others, members) => {
    expect(compareRoots(claim('a', 'x'), others, members).kind).toBe('open');
  });

  test('any difference counts: block, verdicts, state', () => {
    const others = [claim('b', 'r'), claim('c', 'r')];
    for (const part of ['blockHash', 'historyRoot', 'stateRoot'] as const) {
      const own = { ...claim('a', 'r'), [part]: 'other' };
      expect(compareRoots(own, others, 3).kind).toBe('differs');
    }
  });

  test('whatever is claimed, two nodes never both follow different majorities', () => {
    const roots = fc.array(fc.constantFrom('x', 'y', 'z', undefined), {
      minLength: 1,
      maxLength: 7,
    });
    fc.assert(
      fc.property(roots, (claimed) => {
        const claims = claimed.flatMap((root, at) => (root && [claim(`n${at}`, root)]) || []);
        const followed = new Set<string>();
        for (const own of claims) {
          const others = claims.filter((one) => one !== own);
          const verdict = compareRoots(own, others, claimed.length);
          if (verdict.kind === 'differs') followed.add(verdict.majority.stateRoot);
          if (verdict.kind === 'agrees') followed.add(own.stateRoot);
        }
        expect(followed.size).toBeLessThanOrEqual(1);
      }),
    );
  });
});

test('heightsToCompare: the greatest that a majority has, then those of slower nodes', () => {
  expect(heightsToCompare(9, [7, 8], 3)).toEqual([8, 7]);
  expect(heightsToCompare(5, [7, 8], 3)).toEqual([5]);
  expect(heightsToCompare(9, [8], 3)).toEqual([8]);
  expect(heightsToCompare(9, [], 3)).toEqual([]);
  expect(heightsToCompare(9, [4, 3, 2, 0], 5)).toEqual([3, 2]);
  expect(heightsToCompare(9, [], 1)).toEqual([9]);
  expect([1, 2, 3, 4, 5].map(majorityOf)).toEqual([1, 2, 2, 3, 3]);
});
