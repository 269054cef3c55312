import { DaybookError, isDaybookError, limits } from '../src/base/index.ts';
import type { Transport } from '../src/client/index.ts';
import { verdicts } from '../src/model/index.ts';
import type { AppliedEntry } from '../src/replica/index.ts';
import type { Mutant } from './mutant.ts';

const impatientMs = 10;
const singles = { log: 'embedded', workload: 'mixed', singles: true } as const;
const readers = { log: 'embedded', workload: 'mixed', readers: true } as const;

/** Bugs where calls are signed singly, and where events are followed. */
export const singleMutants: readonly Mutant[] = [
  {
    // As one does who takes a lost answer for a refusal.
    name: 'prepare-again-what-may-be-in-the-log',
    seedsMax: 10,
    shows: 'correctness',
    world: singles,
    needs: ['network', 'pauses'],
    transport: (transport) =>
      withPost(transport, async (gateway, path, message) => {
        if (path === 'prepare') return await transport.post(gateway, path, message);
        const stale = new DaybookError('ENDORSEMENT_STALE', 'no answer, so it was not done');
        try {
          const answer = await transport.post(gateway, path, { ...message, waitMs: impatientMs });
          const { error } = answer as { error?: { code: string } };
          return error?.code === 'OUTCOME_UNKNOWN'
            ? { status: 'rejected', error: stale.toJSON() }
            : answer;
        } catch (error) {
          throw isDaybookError(error, 'PEER_UNREACHABLE') ? stale : error;
        }
      }),
  },
  {
    name: 'take-a-signature-that-was-sent-for-done',
    seedsMax: 10,
    shows: 'correctness',
    world: singles,
    needs: ['pauses'],
    transport: (transport) =>
      withPost(transport, async (gateway, path, message) => {
        try {
          return await transport.post(gateway, path, message);
        } catch (error) {
          if (path === 'prepare') throw error;
          return { status: 'committed', position: limits.recordsPerEntryMax };
        }
      }),
  },
  {
    name: 'endorse-without-bound',
    seedsMax: 20,
    shows: 'correctness',
    world: singles,
    endorsesAll: true,
  },
  {
    name: 'go-on-an-entry-too-late',
    seedsMax: 10,
    shows: 'correctness',
    world: readers,
    needs: ['crashes'],
    reader: (transport) => goingOn(transport, limits.recordsPerEntryMax),
  },
  {
    name: 'go-on-with-what-was-told',
    seedsMax: 10,
    shows: 'correctness',
    world: readers,
    needs: ['crashes'],
    reader: (transport) => goingOn(transport, -1),
  },
  {
    name: 'lose-what-is-announced-while-away',
    seedsMax: 10,
    shows: 'correctness',
    world: readers,
    needs: ['crashes'],
    reader: (transport) =>
      withLines(transport, (gateway, path, signal) =>
        transport.lines(gateway, path.replace(/from=[1-9]\d*/, ''), signal),
      ),
  },
  {
    name: 'announce-what-is-invalid',
    seedsMax: 10,
    shows: 'correctness',
    world: readers,
    follow: (entries) => entries.map(allValid),
  },
  {
    name: 'write-on-for-who-does-not-read',
    seedsMax: 10,
    shows: 'correctness',
    world: readers,
    writesOn: true,
  },
  {
    // As one does who waits for a connection that is gone.
    name: 'never-notice-that-a-stream-broke',
    seedsMax: 10,
    shows: 'liveness',
    world: readers,
    needs: ['crashes'],
    reader: (transport) =>
      withLines(transport, async function* (...question) {
        try {
          yield* transport.lines(...question);
        } catch {
          await new Promise(() => undefined);
        }
      }),
  },
];

function allValid(entry: AppliedEntry): AppliedEntry {
  const records = entry.records.map((applied) => ({ ...applied, verdict: verdicts.valid }));
  return { ...entry, records };
}

/** What was asked for from a position on is asked for from another. */
function goingOn(transport: Transport, by: number): Transport {
  return withLines(transport, (gateway, path, signal) => {
    const moved = path.replace(/from=([1-9]\d*)/, (_, from) => `from=${Number(from) + by}`);
    return transport.lines(gateway, moved, signal);
  });
}

function withPost(transport: Transport, post: Transport['post']): Transport {
  return { ...plainTransport(transport), post };
}

function withLines(transport: Transport, lines: Transport['lines']): Transport {
  return { ...plainTransport(transport), lines };
}

function plainTransport(transport: Transport): Transport {
  return {
    send: (...question) => transport.send(...question),
    post: (...question) => transport.post(...question),
    getJson: (...question) => transport.getJson(...question),
    lines: (...question) => transport.lines(...question),
    close: () => transport.close(),
  };
}
