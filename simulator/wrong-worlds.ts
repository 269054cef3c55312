import { type Mutant, plain } from './mutant.ts';

const lastAddress = 20;

/**
 * Worlds that end in each of the other ways a run can fail, so that it is seen that the simulator
 * tells them apart.
 */
export const wrongWorlds: readonly Mutant[] = [
  {
    name: 'throw-in-a-timer',
    seedsMax: 1,
    shows: 'crash',
    nodeLog: (log, sleep) => ({
      ...plain(log),
      follow: (from, signal) => {
        void sleep(500_000).then(() => {
          throw new TypeError('a program error');
        });
        return log.follow(from, signal);
      },
    }),
  },
  {
    name: 'throw-in-an-event',
    seedsMax: 1,
    shows: 'crash',
    prepare: ({ world }) => {
      world.after(undefined, 1_000_000, 'bug', () => {
        throw new TypeError('a program error');
      });
    },
  },
  {
    name: 'stand-still',
    seedsMax: 1,
    shows: 'liveness',
    nodeLog: (log) => ({
      ...plain(log),
      follow: async function* (from, signal) {
        for await (const run of log.follow(from, signal)) {
          if (run.some(({ address }) => address > lastAddress)) await new Promise(() => undefined);
          yield run;
        }
      },
    }),
  },
  {
    name: 'turn-round-and-round',
    seedsMax: 1,
    shows: 'liveness',
    prepare: ({ world }) => {
      const again = (): void => world.after(undefined, 0, 'again', again);
      world.after(undefined, 1_000_000, 'again', again);
    },
  },
  {
    name: 'real-chance',
    seedsMax: 1,
    nodeLog: (log, sleep) => ({
      ...plain(log),
      write: async (token, bytes) => {
        await sleep(Math.random() * 1_000);
        await log.write(token, bytes);
      },
    }),
  },
];
