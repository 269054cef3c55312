import type { ChangeRecord } from '../src/replication/federation/core/index.ts';
import type { Mutant } from './mutant.ts';

const world = { federation: true } as const;

/** Bugs of a federation that the checkers must find. */
export const registryMutants: readonly Mutant[] = [
  {
    name: 'apply-conditionals-at-once',
    seedsMax: 10,
    world,
    registry: {
      answer: (answer) =>
        answer.type === 'records' ? { ...answer, records: answer.records.map(atOnce) } : answer,
    },
  },
  {
    name: 'lose-rows-of-a-full-copy',
    seedsMax: 10,
    world,
    registry: { copy: (rows) => rows.filter((_, at) => at % 5 !== 4) },
  },
  {
    name: 'forget-what-a-killed-registry-wrote',
    seedsMax: 10,
    world,
    registry: { restart: (store, saved) => (saved.size === 0 ? store : saved) },
  },
  {
    name: 'pass-effects-before-causes',
    seedsMax: 20,
    world,
    registry: {
      answer: (answer) =>
        answer.type === 'records'
          ? { ...answer, records: answer.records.toSorted(byOrigin) }
          : answer,
    },
  },
];

/** Takes effect where it arrives, whoever has acknowledged it. */
function atOnce(record: ChangeRecord): ChangeRecord {
  const { payload } = record;
  return payload.type === 'conditional'
    ? { ...record, payload: { ...payload, type: 'newData' } }
    : record;
}

function byOrigin(left: ChangeRecord, right: ChangeRecord): number {
  return left.origin < right.origin ? 1 : left.origin > right.origin ? -1 : 0;
}
