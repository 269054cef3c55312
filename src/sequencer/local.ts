import { DaybookError } from '../base/index.ts';
import type { SharedLog, Token } from '../log/index.ts';
import { type Refusal, SequencerCore } from './core.ts';
import type { Grant, GroupSummary, Sequencer } from './sequencer.ts';

/** How to start a reign. */
export interface StartSequencerOptions {
  readonly log: SharedLog;
  /** Keys of recent writes to remember; `sequencerWindowKeysMax`. */
  readonly windowKeysMax?: number;
}

/** Counters of a reign, since its start. */
export interface SequencerMetrics {
  readonly epoch: number;
  /** The next address to be granted. */
  readonly next: number;
  readonly windowKeys: number;
  readonly requests: number;
  readonly records: number;
  readonly conflicts: number;
  /** Requests answered with `SNAPSHOT_TOO_OLD` or `SEQUENCER_NOT_READY`. */
  readonly refused: number;
}

/** A sequencer in this process. */
export interface LocalSequencer extends Sequencer {
  /** A token for an entry that holds no records: a tick, a configuration. */
  grant(): Token;
  metrics(): SequencerMetrics;
}

/**
 * Takes over: seals the log for the epoch after the present one and reigns from its tail on.
 * Whoever reigned before is fenced by the log; its tokens are worth nothing from now on.
 *
 * @throws {DaybookError} `LOG_EPOCH_SEALED` when somebody else took over at the same moment.
 */
export async function startSequencer(options: StartSequencerOptions): Promise<LocalSequencer> {
  const epoch = (await options.log.epoch()) + 1;
  const start = await options.log.seal(epoch);
  const { windowKeysMax } = options;
  return localSequencer(
    new SequencerCore({ epoch, start, ...(windowKeysMax === undefined ? {} : { windowKeysMax }) }),
  );
}

/** The promise form of a core. */
export function localSequencer(core: SequencerCore): LocalSequencer {
  let requests = 0;
  let records = 0;
  let conflicts = 0;
  let refused = 0;
  const request = (group: GroupSummary): Grant => {
    requests++;
    const answer = core.request(group);
    records += group.count;
    if (typeof answer === 'string') {
      refused++;
      throw new DaybookError(answer, refusalMessages[answer]);
    }
    for (const conflict of answer.conflicts) if (conflict !== undefined) conflicts++;
    return answer;
  };
  return {
    // `async` turns what `request` throws into a rejection.
    request: async (group) => request(group),
    grant: () => core.grant(),
    metrics: () => ({
      epoch: core.epoch,
      next: core.next,
      windowKeys: core.windowKeys,
      requests,
      records,
      conflicts,
      refused,
    }),
  };
}

const refusalMessages: Record<Refusal, string> = {
  SNAPSHOT_TOO_OLD: 'the reads are older than the window of recent writes',
  SEQUENCER_NOT_READY: 'the sequencer took over after these reads',
};
