import { parentConnection, rpcPeer } from '../../io/index.ts';
import type { Position } from '../../model/index.ts';
import { openStateReader, type StateReader } from '../lmdb-store.ts';
import { PendingUpdate } from './pending-updates.ts';
import { sweepMethods } from './sweep-process.ts';
import { decodeSweepRequest, encodeSweepSlice, sweepRows } from './sweeper.ts';

/* A process that goes through rows for bulk updates: started by a state, ends with it. */

const directory = process.argv[2] ?? '';
const compiled = new Map<Position, PendingUpdate>();
let reader: StateReader | undefined;
const peer = rpcPeer(parentConnection());
// Ctrl-C reaches the whole process group; the parent decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

peer.handle(sweepMethods.slice, (payload) => {
  const { updates, start, end, limit } = decodeSweepRequest(payload);
  for (const recorded of updates) {
    if (!compiled.has(recorded.position)) {
      compiled.set(recorded.position, new PendingUpdate(recorded));
    }
  }
  reader ??= openStateReader(directory);
  reader.refresh();
  const rows = reader.range(start, end, limit);
  const wanted = updates.map(({ position }) => compiled.get(position) as PendingUpdate);
  const last = rows.length < limit ? undefined : rows.at(-1)?.key;
  return [encodeSweepSlice({ rows: sweepRows(rows, wanted), seen: rows.length, last })];
});
