import { assert, DaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';

/**
 * What a unit checks before it takes an entry. Every write names the revision of the fence that the
 * writer knows; etcd refuses it when the fence has changed since. So an epoch sealed, a trim point
 * moved and a layout replaced all reach every writer, with the one comparison.
 */
export interface Fence {
  /** As in the layout. */
  readonly log: string;
  /** Lower epochs may not write. */
  readonly epoch: number;
  /** Lower addresses may not be written. */
  readonly trim: Address;
  /** The layout in force. */
  readonly generation: number;
  /** While true, a reconfiguration is under way and nothing at all may be written. */
  readonly sealed: boolean;
  /** Who wrote this value: tells a client whose answer was lost that it was its own. */
  readonly by: string;
}

/** A fence with the revision that writes name. */
export interface KnownFence extends Fence {
  readonly revision: number;
}

/** JSON, as stored in etcd. */
export function encodeFence(fence: Fence): Buffer {
  const { log, epoch, trim, generation, sealed, by } = fence;
  return Buffer.from(JSON.stringify({ log, epoch, trim, generation, sealed, by }), 'utf8');
}

/** @throws {DaybookError} `LOG_DAMAGED` */
export function decodeFence(kv: { value: Uint8Array; mod_revision: string }): KnownFence {
  try {
    const value = JSON.parse(Buffer.from(kv.value).toString('utf8')) as Fence;
    assert(Number.isSafeInteger(value.epoch) && Number.isSafeInteger(value.generation), 'fence');
    return { ...value, trim: asAddress(value.trim), revision: Number(kv.mod_revision) };
  } catch (cause) {
    throw new DaybookError('LOG_DAMAGED', 'the fence of a log unit is damaged', { cause });
  }
}
