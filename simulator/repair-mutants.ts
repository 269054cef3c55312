import { addressOf } from '../src/model/index.ts';
import type { Mutant } from './mutant.ts';

const world = { log: 'embedded', workload: 'mixed', repair: true } as const;

/** Bugs that show where nodes compare their states and mend them. */
export const repairMutants: readonly Mutant[] = [
  {
    name: 'answer-while-the-state-is-in-doubt',
    seedsMax: 10,
    shows: 'correctness',
    world,
    needs: ['disks'],
    servesInDoubt: true,
  },
  {
    name: 'start-again-without-restoring',
    seedsMax: 5,
    world,
    shows: 'correctness',
    needs: ['disks'],
    repairIo: (io) => ({
      ...io,
      disk: {
        ...io.disk,
        readFile: (path) => io.disk.readFile(path === '/repair/record.json' ? '/none' : path),
      },
    }),
  },
  {
    name: 'compare-no-rows',
    seedsMax: 5,
    world,
    shows: 'correctness',
    needs: ['disks'],
    comparesNoRows: true,
  },
  {
    name: 'take-blocks-for-saved-that-are-not',
    seedsMax: 5,
    shows: 'correctness',
    world,
    needs: ['power'],
    blocks: (backend) => ({
      ...backend,
      save: async () => addressOf((await backend.status()).position),
    }),
  },
];
