import type { Mutant } from './mutant.ts';

const world = { log: 'etcd', workload: 'mixed', retention: true, quota: true } as const;

/** Bugs that show where etcd has no space left. */
export const quotaMutants: readonly Mutant[] = [
  {
    name: 'never-lift-the-alarm',
    seedsMax: 20,
    shows: 'liveness',
    world,
    member: (member) => ({
      ...member,
      call: (name, request, options) => {
        const isLifted = name === 'alarm' && (request as { action: number }).action === 2;
        return member.call(name, isLifted ? { ...request, action: 0 } : request, options);
      },
    }),
  },
];
