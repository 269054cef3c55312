import { DaybookError } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';
import { checkStored, damaged, decodeStored, type StoredEntry } from './stored-entry.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/** An entry as stored, with its bytes put together. */
export interface ReadEntry {
  readonly stored: StoredEntry;
  readonly bytes: Buffer;
}

/**
 * What stands at `address` on `unit`; `undefined` when nothing does.
 *
 * @throws {DaybookError} `LOG_TRIMMED`, `LOG_DAMAGED`, `TIMEOUT`, `CLOSED`
 */
export async function readStored(
  units: Units,
  unit: Unit,
  address: Address,
): Promise<ReadEntry | undefined> {
  const { kv, fence } = await unit.get(address);
  if (address < fence.trim) throw trimmed(address);
  if (kv === undefined) return undefined;
  const stored = decodeStored(address, kv.value);
  return { stored, bytes: await bytesOfStored(units, unit, stored) };
}

/**
 * The bytes of an entry; fetches the parts of a split one.
 *
 * @throws {DaybookError} `LOG_TRIMMED`, `LOG_DAMAGED`, `TIMEOUT`, `CLOSED`
 */
export async function bytesOfStored(
  units: Units,
  unit: Unit,
  stored: StoredEntry,
): Promise<Buffer> {
  const { split, address } = stored;
  if (split === undefined) return stored.bytes;
  const bytes = Buffer.concat(await unit.valuesUnder(units.keys.part(address, split.id)));
  if (bytes.length !== split.length) {
    const fence = await unit.readFence();
    if (fence !== undefined && address < fence.trim) throw trimmed(address);
    throw damaged(address, 'parts are missing');
  }
  checkStored(stored, bytes);
  return bytes;
}

/** In the form that the log's users see. */
export function logEntry({ stored, bytes }: ReadEntry): LogEntry {
  const { address, epoch } = stored;
  return { address, kind: stored.kind === 'fill' ? 'fill' : 'data', epoch, bytes };
}

/** The error for an address before the trim point. */
export function trimmed(address: Address): DaybookError {
  return new DaybookError('LOG_TRIMMED', `address ${address} is trimmed`, { details: { address } });
}
