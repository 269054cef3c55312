import { DaybookError } from '../../base/index.ts';
import type { Feed } from '../feed.ts';
import { type Sink, unavailable } from '../sinks/sink.ts';
import type { TestLedger } from './test-ledger.ts';

/** Loses requests and answers, and gives answers of earlier pulls again, as numbers say. */
export function lossy(feed: Feed, fate: () => number): Feed {
  let earlier: Awaited<ReturnType<Feed['pull']>> | undefined;
  const lose = async <T>(work: () => Promise<T>): Promise<T> => {
    const number = fate();
    if (number === 0) throw new DaybookError('PEER_UNREACHABLE', 'request lost');
    const answer = await work();
    if (number === 1) throw new DaybookError('PEER_UNREACHABLE', 'answer lost');
    return answer;
  };
  return {
    ...feed,
    pull: (...args) =>
      lose(async () => {
        const before = earlier;
        earlier = await feed.pull(...args);
        return fate() === 2 && before !== undefined ? before : earlier;
      }),
    scan: (...args) => lose(() => feed.scan(...args)),
    applied: (...args) => lose(() => feed.applied(...args)),
  };
}

/** Has outages before the work is done, and after it, as numbers say. */
export function unsteady(sink: Sink, fate: () => number): Sink {
  const endure = async <T>(work: () => Promise<T>): Promise<T> => {
    const number = fate();
    if (number === 3) throw unavailable('test', 'before');
    const answer = await work();
    if (number === 4) throw unavailable('test', 'after');
    return answer;
  };
  return {
    open: () => endure(() => sink.open()),
    apply: (...args) => endure(() => sink.apply(...args)),
    tryOut: (...args) => sink.tryOut(...args),
    fill: (...args) => endure(() => sink.fill(...args)),
    readParked: () => sink.readParked(),
    unpark: (...args) => sink.unpark(...args),
    close: () => sink.close(),
  };
}

/** The state of a test's ledger before a position. */
export function stateAt(
  ledger: TestLedger,
  position: number,
): Map<string, { readonly content: string }> {
  const state = new Map<string, { readonly content: string }>();
  for (const { records } of ledger.entries) {
    for (const { position: at, record, verdict } of records) {
      if (at >= position || verdict !== 0) continue;
      for (const { key, value } of record.sets.flatMap((set) => set.writes)) {
        if (value === undefined) state.delete(key);
        else state.set(key, { content: Buffer.from(value, 'latin1').toString('utf8') });
      }
    }
  }
  return state;
}
