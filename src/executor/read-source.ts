import type { Bytestring } from '../base/index.ts';
import type { HistoryPage } from '../contract/index.ts';
import type { StateView } from '../state/index.ts';
import type { ReadSource } from './call-context.ts';
import { type Found, type FoundRow, type Seen, seenRow } from './call-set.ts';
import type { InFlightWrite, InFlightWrites } from './in-flight.ts';
import type { QueryFunctions } from './query-functions.ts';

/** What every source of reads stands on. */
export interface SourceBase {
  readonly committed: StateView;
  readonly query: QueryFunctions;
  readonly pendingUpdates: () => number;
  readonly history: (key: Bytestring, limit: number, bookmark: string) => Promise<HistoryPage>;
}

/** Reads of committed state only. */
export function committedSource(base: SourceBase): ReadSource {
  const { committed } = base;
  return {
    ...base,
    read: (key, stateKey) => committedRead(committed, key, stateKey),
    readRange: (start, end, limit) => committedRows(committed, start, end, limit),
  };
}

/** Reads of committed state under the writes in flight. */
export function inFlightSource(base: SourceBase, inFlight: InFlightWrites): ReadSource {
  const { committed } = base;
  return {
    ...base,
    read: (key, stateKey) => {
      const write = inFlight.top(stateKey);
      if (write === undefined) return committedRead(committed, key, stateKey);
      return seenRow(key, write.key, undefined, write.value, write.execution);
    },
    readRange: (start, end, limit) => {
      const above = inFlight.range(start, end);
      return above.length === 0
        ? committedRows(committed, start, end, limit)
        : mergedRows(committed, above, start, end, limit);
    },
  };
}

/** The string that the row is kept under is taken over: it has its hash, and others have it too. */
function committedRead(committed: StateView, key: Bytestring, stateKey: Bytestring): Seen {
  const row = committed.get(stateKey);
  return row === undefined
    ? seenRow(key, stateKey, undefined, undefined, undefined)
    : seenRow(key, row.key, row.version, row.value, undefined);
}

function pending(write: InFlightWrite): Found {
  return { value: write.value, version: undefined, execution: write.execution };
}

function committedRows(
  committed: StateView,
  start: Bytestring,
  end: Bytestring,
  limit: number,
): FoundRow[] {
  return committed
    .range(start, end, limit)
    .map(({ key, value, version }) => ({ key, value, version, execution: undefined }));
}

/** Lays writes in flight (in key order) over the committed rows until `limit` values are found. */
function mergedRows(
  committed: StateView,
  above: readonly InFlightWrite[],
  start: Bytestring,
  end: Bytestring,
  limit: number,
): FoundRow[] {
  // Every write in flight hides at most one committed row.
  const below = committed.range(start, end, limit + above.length);
  const rows: FoundRow[] = [];
  let values = 0;
  let at = 0;
  let under = 0;
  while (values < limit) {
    const write = above[at];
    const row = below[under];
    if (write === undefined && row === undefined) break;
    if (write !== undefined && (row === undefined || write.key <= row.key)) {
      rows.push({ key: write.key, ...pending(write) });
      if (write.value !== undefined) values++;
      at++;
      if (row !== undefined && row.key === write.key) under++;
    } else if (row !== undefined) {
      rows.push({ key: row.key, value: row.value, version: row.version, execution: undefined });
      values++;
      under++;
    }
  }
  return rows;
}
