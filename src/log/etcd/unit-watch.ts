import type { Timers } from '../../io/index.ts';
import type { KeyValue, WatchResponse } from './etcd-api.ts';
import type { UnitClient } from './unit-client.ts';

/** What {@link watchUnit} is told. */
export interface WatchOptions {
  readonly client: UnitClient;
  readonly timers: Timers;
  /** Keys in `[key, end)`. */
  readonly key: Buffer;
  readonly end: Buffer;
  /** The first revision to report. */
  readonly revision: number;
  /** The watch ends after so long without a message. */
  readonly silenceMs: number;
  readonly signal: AbortSignal;
  /** Deletions are reported too, as keys with a `create_revision` of 0. */
  readonly deletes?: boolean;
  /** Puts of one or more revisions, in order of revision; return false to end the watch. */
  readonly onKeys: (kvs: readonly KeyValue[]) => boolean;
}

const noDeletes = 1;

/**
 * Reports changes in a range of keys; resolves when the watch ends, for whatever reason. A member that
 * was paused or cut off falls silent without an error, so silence is one of the reasons.
 */
export async function watchUnit(options: WatchOptions): Promise<void> {
  const { signal } = options;
  const stream = await options.client.stream('watch');
  await new Promise<void>((resolve) => {
    let ended = false;
    const end = (): void => {
      if (ended) return;
      ended = true;
      alarm.cancel();
      signal.removeEventListener('abort', end);
      stream.cancel();
      resolve();
    };
    let alarm = options.timers.after(options.silenceMs, end);
    if (signal.aborted) {
      end();
      return;
    }
    signal.addEventListener('abort', end, { once: true });
    stream.on('data', (message: WatchResponse) => {
      if (ended) return;
      alarm.cancel();
      alarm = options.timers.after(options.silenceMs, end);
      const kvs = message.events.map((event) => event.kv);
      if (message.canceled || (kvs.length > 0 && !options.onKeys(kvs))) end();
    });
    stream.on('error', end);
    stream.on('end', end);
    stream.write({
      create_request: {
        key: options.key,
        range_end: options.end,
        start_revision: options.revision,
        filters: options.deletes ? [] : [noDeletes],
      },
    });
  });
}
