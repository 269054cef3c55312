import { isDaybookError } from '../base/index.ts';
import { unpackBlocks } from '../blocks/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  type Address,
  asAddress,
  asPosition,
  decodeEntry,
  type Position,
  positionOf,
} from '../model/index.ts';
import type { Member } from './members.ts';
import type { OtherChains } from './node-blocks.ts';
import { remoteOrders } from './private-service.ts';

const retryMs = 500;
/** Whose blocks did not hold is asked again after so long: it may have mended them. */
const distrustMs = 5_000;

/**
 * The chains of the other members of a cluster, over the private network. Asks those first that say
 * they hold most.
 */
export function otherChains(
  io: Pick<Io, 'clock' | 'network' | 'timers'>,
  log: Pick<SharedLog, 'start' | 'read'>,
  others: () => readonly Member[],
): OtherChains {
  /** Until when. */
  const distrusted = new Map<string, number>();
  let last: string | undefined;
  const trusted = (): Member[] =>
    others()
      .filter(({ name }) => (distrusted.get(name) ?? 0) <= io.clock.monotonicMs())
      .sort((a, b) => (b.held ?? 0) - (a.held ?? 0));
  return {
    logStart: () => log.start(),
    recordsEnd: (before) => recordsEnd(log, before),
    fetch: async (from) => {
      for (const { name, address } of trusted()) {
        try {
          const blocks = unpackBlocks(await remoteOrders(io, address).blocks(from));
          last = name;
          if (blocks.length > 0) return blocks;
        } catch (error) {
          // It is away, or has no chain: the next one.
          if (!isDaybookError(error)) throw error;
        }
      }
      // They have not come so far, or none is there: blocks are late, never lost.
      await pause(io, retryMs);
      return [];
    },
    distrustLast: () => {
      if (last !== undefined) distrusted.set(last, io.clock.monotonicMs() + distrustMs);
      const name = last;
      last = undefined;
      return name;
    },
  };
}

/**
 * The others' chains end behind their last record: behind ticks and fills there is no block to wait
 * for, and where the log is idle none will come.
 */
async function recordsEnd(
  log: Pick<SharedLog, 'start' | 'read'>,
  before: Address,
): Promise<Position> {
  const start = await log.start();
  for (let address = before - 1; address >= start; address--) {
    const entry = await log.read(asAddress(address)).catch((error: unknown) => {
      if (!isDaybookError(error, 'LOG_TRIMMED')) throw error;
      return undefined;
    });
    if (entry === undefined) return positionOf(asAddress(address + 1), 0);
    if (entry.kind === 'fill') continue;
    const data = decodeEntry(entry.bytes);
    if (data.kind === 'config') return asPosition(positionOf(asAddress(address), 0) + 1);
    const last = data.kind === 'records' ? data.records.at(-1) : undefined;
    if (last !== undefined) return asPosition(positionOf(asAddress(address), last.index) + 1);
  }
  return positionOf(asAddress(Math.min(start, before)), 0);
}
