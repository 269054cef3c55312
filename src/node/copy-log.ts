import { DaybookError, isDaybookError } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import { openEmbeddedLog, type SharedLog } from '../log/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { type ClusterLogOptions, openClusterLog } from './cluster-log.ts';

/** A log of either engine: an absolute directory of an embedded log, or one on etcd. */
export type LogPlace = { readonly directory: string } | ClusterLogOptions;

/** What {@link copyLog} did. */
export interface CopiedLog {
  /** Entries in the copy, fills included: the addresses below this one. */
  readonly entries: number;
  readonly bytes: number;
  /** Of these, how many were there already from an earlier attempt. */
  readonly resumedAt: number;
}

const writesUnderWay = 64;
const retryMs = 20;

/**
 * Copies a channel's log to another place, of the same or another engine, with the same entries at
 * the same addresses: whoever follows the copy derives the same state and the same blocks. The
 * source must not be in use, or what is written meanwhile is not copied. A copy that was broken off
 * goes on where it stopped.
 *
 * @throws {DaybookError} `LOG_TRIMMED` when the source has lost its beginning; `LOG_ADDRESS_TAKEN`
 *   when the target holds another log; `LOG_LOCKED` when a network runs on one of them.
 */
export async function copyLog(
  io: Io,
  from: LogPlace,
  to: LogPlace,
  onProgress: (entries: number, tail: number) => void = () => undefined,
): Promise<CopiedLog> {
  const source = await open(io, from, true);
  try {
    const target = await open(io, to);
    try {
      return await copy(io, source, target, onProgress);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

function open(io: Io, place: LogPlace, mustExist = false): Promise<SharedLog> {
  return 'directory' in place
    ? openEmbeddedLog({ io, directory: place.directory })
    : openClusterLog(io, place, { mustExist });
}

async function copy(
  io: Io,
  source: SharedLog,
  target: SharedLog,
  onProgress: (entries: number, tail: number) => void,
): Promise<CopiedLog> {
  const start = await source.start();
  if (start > 0) {
    throw new DaybookError('LOG_TRIMMED', `the log begins at ${start}: it cannot be copied whole`, {
      details: { start },
    });
  }
  const tail = await source.tail();
  const resumedAt = await target.tail();
  if (resumedAt > tail) {
    throw new DaybookError('LOG_ADDRESS_TAKEN', 'the target holds another, longer log', {
      details: { tail, target: resumedAt },
    });
  }
  let bytes = 0;
  let next = 0;
  let underWay: Promise<void>[] = [];
  if (tail > 0) {
    for await (const entries of source.follow(asAddress(0))) {
      for (const { address, kind, epoch, bytes: entry } of entries) {
        if (address >= tail) break;
        bytes += entry.length;
        next = address + 1;
        underWay.push(
          kind === 'fill'
            ? fillSame(target, address)
            : writeSame(io, target, { epoch, address }, entry),
        );
        if (underWay.length >= writesUnderWay) {
          await Promise.all(underWay);
          underWay = [];
          onProgress(next, tail);
        }
      }
      if (next >= tail) break;
    }
  }
  await Promise.all(underWay);
  const epoch = await source.epoch();
  if (epoch > (await target.epoch())) await target.seal(epoch);
  onProgress(next, tail);
  return { entries: next, bytes, resumedAt };
}

async function writeSame(
  io: Io,
  target: SharedLog,
  token: { readonly epoch: number; readonly address: Address },
  bytes: Uint8Array,
): Promise<void> {
  for (;;) {
    try {
      await target.write(token, bytes);
      return;
    } catch (error) {
      if (!isDaybookError(error, 'OVERLOADED', 'TIMEOUT')) throw error;
      await pause(io, retryMs, { keepAlive: true });
    }
  }
}

async function fillSame(target: SharedLog, address: Address): Promise<void> {
  await target.fill(address);
  const { kind } = await target.read(address);
  if (kind === 'fill') return;
  throw new DaybookError('LOG_ADDRESS_TAKEN', `address ${address} holds an entry, not a fill`, {
    details: { address },
  });
}
