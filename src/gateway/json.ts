import { isUtf8 } from 'node:buffer';
import { type Bytestring, bytesOf, bytestringOf, DaybookError } from '../base/index.ts';
import {
  type CommitRecord,
  decodeTransaction,
  type Outcome,
  type ReadVersion,
  type Transaction,
  verdictName,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';

/** Bytes in JSON: a string when they are UTF-8, else an object with their base64. */
export type JsonBytes = string | { readonly base64: string };

/** Bytes as {@link JsonBytes}. */
export function toJsonBytes(bytes: Uint8Array): JsonBytes {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return isUtf8(buffer) ? buffer.toString('utf8') : { base64: buffer.toString('base64') };
}

/**
 * Reads {@link JsonBytes}.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function fromJsonBytes(value: unknown, what: string): Buffer {
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  if (typeof value === 'object' && value !== null && 'base64' in value) {
    return fromBase64(value.base64, what);
  }
  throw malformed(what, 'neither a string nor {"base64": …}');
}

/**
 * Bytes in a query: as text, or as base64 (in either alphabet) under another name.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT` unless exactly one is given, `MALFORMED`
 */
export function bytestringOfParameter(
  text: string | undefined,
  base64: string | undefined,
  what: string,
): Bytestring {
  if (text !== undefined && base64 === undefined) return bytestringOf(Buffer.from(text, 'utf8'));
  if (text === undefined && base64 !== undefined) {
    const standard = base64.replaceAll('-', '+').replaceAll('_', '/');
    return bytestringOf(fromBase64(standard, what));
  }
  throw new DaybookError('INVALID_ARGUMENT', `give either ${what} or ${what}Base64`, {
    details: { what },
  });
}

/** @throws {DaybookError} `MALFORMED` */
export function fromBase64(value: unknown, what: string): Buffer {
  if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
    throw malformed(what, 'not base64');
  }
  return Buffer.from(value, 'base64');
}

/** @throws {DaybookError} `MALFORMED` */
export function fromHex(value: unknown, bytes: number, what: string): Buffer {
  if (typeof value !== 'string' || value.length !== 2 * bytes || !/^[0-9a-f]*$/.test(value)) {
    throw malformed(what, `not ${2 * bytes} hexadecimal digits`);
  }
  return Buffer.from(value, 'hex');
}

/** An error that names the malformed part. */
export function malformed(what: string, why: string): DaybookError {
  return new DaybookError('MALFORMED', `malformed ${what}: ${why}`, { details: { what } });
}

const ofBytestring = (bytestring: Bytestring): JsonBytes => toJsonBytes(bytesOf(bytestring));

/** One line of the answer to a JSON batch. */
export function outcomeJson(index: number, id: Uint8Array, outcome: Outcome): object {
  const txId = Buffer.from(id).toString('hex');
  return outcome.status === 'committed'
    ? {
        index,
        txId,
        status: outcome.status,
        position: outcome.position,
        result: ofBytestring(outcome.result),
      }
    : { index, txId, status: outcome.status, error: outcome.error };
}

/** A record with all that the log says about it. */
export function recordJson({ position, record, verdict }: AppliedRecord): object {
  return {
    position,
    txId: Buffer.from(record.txId).toString('hex'),
    verdict: verdictName(verdict),
    valid: verdict === 0,
    type: record.type,
    ...transactionJson(record),
    contractVersion: record.contractVersion,
    sets: record.sets.map((set) => ({
      namespace: set.namespace,
      reads: set.reads.map((read) => ({
        key: ofBytestring(read.key),
        version: versionJson(read.version),
      })),
      ranges: set.ranges.map((range) => ({
        start: ofBytestring(range.start),
        end: ofBytestring(range.end),
        exhausted: range.exhausted,
        rows: range.rows.map((row) => ({
          key: ofBytestring(row.key),
          version: versionJson(row.version),
        })),
      })),
      writes: set.writes.map((write) => ({
        key: ofBytestring(write.key),
        ...(write.value === undefined ? { deleted: true } : { value: ofBytestring(write.value) }),
      })),
      bulkUpdates: set.bulkUpdates.map((bulk) => ({
        start: ofBytestring(bulk.start),
        end: ofBytestring(bulk.end),
        query: bulk.query,
        update: bulk.update,
        rows: bulk.rows,
      })),
    })),
    result: ofBytestring(record.result),
    event:
      record.event === undefined
        ? undefined
        : { name: record.event.name, payload: ofBytestring(record.event.payload) },
  };
}

/** The call that a record carries; a record that replay found malformed may have none. */
export function transactionOf(record: CommitRecord): Transaction | undefined {
  try {
    return decodeTransaction(record.transactionBytes);
  } catch {
    return undefined;
  }
}

function transactionJson(record: CommitRecord): object {
  const transaction = transactionOf(record);
  if (transaction === undefined) return {};
  return {
    contract: transaction.contract,
    function: transaction.functionName,
    args: transaction.args.map(toJsonBytes),
    nonce: Buffer.from(transaction.nonce).toString('hex'),
    timestampMs: transaction.timestampMs,
  };
}

/** `null`: the key was absent. A number: position. An object: index of a record in this entry. */
function versionJson(version: ReadVersion): number | { index: number } | null {
  if (version === undefined) return null;
  return typeof version === 'object' ? { index: version.index } : version;
}

/** An entry as `log tail` shows it. */
export function entryJson({ address, entry, records, logTimeMs }: AppliedEntry): object {
  if (entry === undefined) return { address, kind: 'fill', logTimeMs };
  const header = {
    address,
    kind: entry.kind,
    writer: entry.writer,
    timestampMs: entry.timestampMs,
    logTimeMs,
  };
  switch (entry.kind) {
    case 'tick':
      return header;
    case 'config':
      return { ...header, config: JSON.parse(entry.config) as unknown };
    case 'records':
      return { ...header, records: records.map(recordJson) };
  }
}
