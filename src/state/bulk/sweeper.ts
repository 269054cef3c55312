import { ByteReader, type Bytestring, ByteWriter, limits } from '../../base/index.ts';
import { asPosition, type Position } from '../../model/index.ts';
import type { Row } from '../state.ts';
import {
  decodeRecordedUpdate,
  encodeRecordedUpdate,
  type PendingUpdate,
  type RecordedUpdate,
} from './pending-updates.ts';

/** A piece of the work of bulk updates: rows of `start <= key < end`, at most `limit`. */
export interface SweepRequest {
  /** Bulk updates that rows may not have taken, in log order. */
  readonly updates: readonly RecordedUpdate[];
  readonly start: Bytestring;
  readonly end: Bytestring;
  readonly limit: number;
}

/** A row that takes updates: what it was, and what each makes of it. */
export interface SweptRow {
  readonly key: Bytestring;
  /** The row that this follows from; it counts no more when the row has another version by now. */
  readonly version: Position;
  readonly steps: readonly { readonly position: Position; readonly value: Bytestring }[];
}

/** See {@link Sweeper.slice}. */
export interface SweepSlice {
  readonly rows: readonly SweptRow[];
  /** Rows looked at. */
  readonly seen: number;
  /** Key of the last of them; `undefined`: nothing is left in the range. */
  readonly last: Bytestring | undefined;
}

/**
 * Works out what bulk updates make of the rows in the store, somewhere else than on the thread that
 * commits. It changes nothing: the state takes each row over, if it is still the same.
 */
export interface Sweeper {
  /** @throws {DaybookError} `PEER_UNREACHABLE` when it is gone; a new one goes on anywhere. */
  slice(request: SweepRequest): Promise<SweepSlice>;
  close(): void;
}

/** What updates make of these rows; rows that none concerns are left out. */
export function sweepRows(rows: readonly Row[], updates: readonly PendingUpdate[]): SweptRow[] {
  const swept: SweptRow[] = [];
  for (const { key, value, version } of rows) {
    const steps: { position: Position; value: Bytestring }[] = [];
    let now = value;
    for (const update of updates) {
      if (version >= update.position || !update.covers(key)) continue;
      const after = update.valueAfter(key, now);
      if (after === undefined) continue;
      steps.push({ position: update.position, value: after });
      now = after;
    }
    if (steps.length > 0) swept.push({ key, version, steps });
  }
  return swept;
}

const keyBytes = limits.keyBytesMax + limits.nameBytesMax + 1;

/** For a sweeping process. */
export function encodeSweepRequest({ updates, start, end, limit }: SweepRequest): Uint8Array {
  const writer = new ByteWriter(1024).u32(limit).bytestring(start).bytestring(end);
  writer.u32(updates.length);
  for (const update of updates) encodeRecordedUpdate(writer, update);
  return writer.finish();
}

/** @throws {DaybookError} `MALFORMED` */
export function decodeSweepRequest(bytes: Uint8Array): SweepRequest {
  const reader = new ByteReader(bytes, 'sweep request');
  const limit = reader.u32();
  const start = reader.bytestring(keyBytes);
  const end = reader.bytestring(keyBytes);
  const updates: RecordedUpdate[] = [];
  for (let count = reader.u32(); count > 0; count--) updates.push(decodeRecordedUpdate(reader));
  reader.finish();
  return { updates, start, end, limit };
}

/** The answer of a sweeping process. */
export function encodeSweepSlice({ rows, seen, last }: SweepSlice): Uint8Array {
  const writer = new ByteWriter(64 * 1024).u32(seen);
  writer.u8(last === undefined ? 0 : 1).bytestring(last ?? '');
  writer.u32(rows.length);
  for (const { key, version, steps } of rows) {
    writer.bytestring(key).u64(version).u16(steps.length);
    for (const { position, value } of steps) writer.u64(position).bytestring(value);
  }
  return writer.finish();
}

/** @throws {DaybookError} `MALFORMED` */
export function decodeSweepSlice(bytes: Uint8Array): SweepSlice {
  const reader = new ByteReader(bytes, 'swept rows');
  const seen = reader.u32();
  const isLast = reader.u8() === 0;
  const key = reader.bytestring(keyBytes);
  const rows: SweptRow[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const steps: { position: Position; value: Bytestring }[] = [];
    const row = { key: reader.bytestring(keyBytes), version: asPosition(reader.u64()), steps };
    for (let left = reader.u16(); left > 0; left--) {
      const position = asPosition(reader.u64());
      steps.push({ position, value: reader.bytestring(limits.valueBytesMax) });
    }
    rows.push(row);
  }
  reader.finish();
  return { rows, seen, last: isLast ? undefined : key };
}
