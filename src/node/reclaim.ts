import type { Io } from '../io/index.ts';
import type { LogRoom, SharedLog } from '../log/index.ts';
import { repeat } from './repeat.ts';

/** Settings of {@link keepReclaiming}. */
export interface ReclaimOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly log: Pick<SharedLog, 'reclaim'>;
  /** Pause between two looks. */
  readonly everyMs: number;
  /** Another node does it. */
  readonly leavesTrimming: () => boolean;
  readonly onEvent: (text: string) => void;
}

const told: Readonly<Record<LogRoom, string>> = {
  enough: 'the log has room again',
  full: 'the log is full: transactions wait until it is trimmed, or has more space (docs/etcd.md)',
  none: 'ALARM etcd has reached its quota, and nothing can be given back: no node can start until the log is trimmed, or etcd has more space (docs/etcd.md)',
};

/**
 * Until `signal` aborts gives back what a log without space can spare, also while there is nothing to
 * trim. It begins before the node registers and has caught up: without space it could do neither.
 *
 * @returns resolves when that was tried once; what goes on is nobody's to wait for.
 */
export async function keepReclaiming(options: ReclaimOptions, signal: AbortSignal): Promise<void> {
  const { io, log, everyMs, leavesTrimming, onEvent } = options;
  let last: LogRoom = 'enough';
  const once = async (): Promise<void> => {
    try {
      const room = (await log.reclaim?.()) ?? last;
      if (room !== last) onEvent(told[room]);
      last = room;
    } catch (error) {
      if (!signal.aborted) onEvent(`no space could be given back: ${String(error)}`);
    }
  };
  await once();
  if (signal.aborted) return;
  const repeated = repeat(io, everyMs, async () => {
    if (!leavesTrimming()) await once();
  });
  signal.addEventListener('abort', () => void repeated.close(), { once: true });
}
