import { DaybookError, isDaybookError } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import { type Candidate, campaign, type EtcdLog, type Leader, type Reign } from '../log/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import {
  type Grant,
  type GroupSummary,
  type LocalSequencer,
  localSequencer,
  type Sequencer,
  SequencerCore,
  type SequencerMetrics,
} from '../sequencer/index.ts';
import type { Repeated } from './repeat.ts';
import { startTicker } from './ticker.ts';

/** Settings of {@link SequencerHost}. */
export interface SequencerHostOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly log: EtcdLog;
  readonly candidate: Candidate;
  /** The first address that this node has not applied; holes before it are closed already. */
  readonly nextAddress: () => Address;
  /** Writes ticks while it leads; see `startTicker`. */
  readonly tickIntervalMs: number | undefined;
  /** Hands over by itself after leading for so long, milliseconds; 0: never. */
  readonly rotateMs: number;
  /** Another node that could lead; `undefined` when there is none. */
  readonly successor: () => string | undefined;
  readonly onEvent: (text: string) => void;
}

/** How far below its first address a reign looks for holes: more than all groups in flight. */
const holesMax = 512;
const drainTimeoutMs = 500;
const pollMs = 10;
const failurePauseMs = 1_000;
/** After a handover to nobody in particular the others go first. */
const holdBackMs = 1_500;

interface Reigning {
  readonly reign: Reign;
  readonly sequencer: LocalSequencer;
  readonly ticker: Repeated | undefined;
  /** Requests wait while the reign is being handed over. */
  handingOver: boolean;
}

/**
 * A candidate for the sequencer's place: campaigns, and answers requests while it leads. Each reign
 * begins with an empty window in the next epoch (see `SequencerCore`) and closes the holes that
 * earlier reigns left, which nobody can fill with an entry any more.
 */
export class SequencerHost implements Sequencer {
  readonly #options: SequencerHostOptions;
  readonly #closing = new AbortController();
  #standing = new AbortController();
  #present: Reigning | undefined;
  #holdBackUntilMs = 0;
  readonly #running: Promise<void>;

  constructor(options: SequencerHostOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Epoch of the present reign; `undefined` while another node leads, or none. */
  get epoch(): number | undefined {
    return this.#present?.reign.epoch;
  }

  /** Counters of the present reign. */
  metrics(): SequencerMetrics | undefined {
    return this.#present?.sequencer.metrics();
  }

  /** @throws {DaybookError} `PEER_UNREACHABLE` when this node does not lead (any more). */
  async request(group: GroupSummary): Promise<Grant> {
    const present = this.#present;
    if (present?.handingOver) await aborted(present.reign.lost);
    if (present === undefined || present.reign.lost.aborted) {
      throw new DaybookError('PEER_UNREACHABLE', 'this node does not lead');
    }
    return present.sequencer.request(group);
  }

  /**
   * Ends the present reign in order: grants nothing more, waits until what it granted is written,
   * then gives the place up. Executors ask the successor from then on.
   *
   * @param successor - name of the node that is to lead; without one, any other.
   * @throws {DaybookError} `NOT_FOUND` when this node does not lead.
   */
  async handOver(successor?: string): Promise<void> {
    const present = this.#present;
    if (present === undefined) throw new DaybookError('NOT_FOUND', 'this node does not lead');
    if (present.handingOver) return aborted(present.reign.lost);
    const { clock } = this.#options.io;
    present.handingOver = true;
    void present.ticker?.close();
    await this.#untilWritten(present).catch(() => undefined);
    this.#holdBackUntilMs = clock.monotonicMs() + holdBackMs;
    await present.reign.resign(successor);
  }

  /** Hears who leads: a reign that another has followed is over. */
  observe(leader: Leader | undefined): void {
    const present = this.#present;
    if (present === undefined || leader === undefined) return;
    if (leader.epoch > present.reign.epoch) void present.reign.resign();
  }

  /** Leaves the contest, handing over first if this node leads; {@link stand} joins it again. */
  async withdraw(): Promise<void> {
    this.#standing.abort();
    if (this.#present !== undefined) await this.handOver(this.#options.successor());
  }

  /** Joins the contest again. */
  stand(): void {
    if (this.#standing.signal.aborted) this.#standing = new AbortController();
  }

  /** Gives the place up, if it has it, and ends. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.withdraw();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log, candidate, onEvent } = this.#options;
    while (!this.#closing.signal.aborted) {
      const { signal } = this.#standing;
      if (signal.aborted || this.#holdsBack()) {
        await pause(this.#options.io, pollMs * 5);
        continue;
      }
      try {
        const reign = await campaign(log, candidate, signal);
        if (signal.aborted) await reign.resign();
        else await this.#reign(reign);
      } catch (error) {
        if (signal.aborted) continue;
        if (isDaybookError(error, 'CLOSED')) return;
        onEvent(`cannot become sequencer: ${String(error)}`);
        await pause(this.#options.io, failurePauseMs);
      }
    }
  }

  async #reign(reign: Reign): Promise<void> {
    const { io, rotateMs, onEvent } = this.#options;
    const { epoch, tail, lost } = reign;
    const core = new SequencerCore({ epoch, start: tail });
    const sequencer = localSequencer(core);
    const ticker = this.#startTicker(sequencer);
    this.#present = { reign, sequencer, ticker, handingOver: false };
    onEvent(`leads as sequencer: epoch ${epoch} from address ${tail}`);
    this.#closeHoles(tail);
    const rotation =
      rotateMs > 0 ? io.timers.after(rotateMs, () => this.#rotate(epoch)) : undefined;
    await aborted(lost);
    rotation?.cancel();
    void ticker?.close();
    this.#present = undefined;
    // The lease may still stand when the reign ended otherwise than by resigning.
    await reign.resign();
    onEvent(`leads no more: epoch ${epoch} ended`);
  }

  /** No entry of an earlier epoch can be written any more, so what is open will stay open. */
  #closeHoles(tail: Address): void {
    const { log, nextAddress } = this.#options;
    const from = Math.max(nextAddress(), tail - holesMax);
    for (let address = from; address < tail; address++) {
      // If it fails, whoever waits for the address fills it.
      log.fill(asAddress(address)).catch(() => undefined);
    }
  }

  #startTicker(sequencer: LocalSequencer): Repeated | undefined {
    const { io, log, candidate, tickIntervalMs: intervalMs } = this.#options;
    if (intervalMs === undefined) return undefined;
    return startTicker({ io, log, sequencer, writer: candidate.node, intervalMs });
  }

  #rotate(epoch: number): void {
    const successor = this.#options.successor();
    if (this.epoch !== epoch) return;
    if (successor === undefined) {
      this.#options.io.timers.after(this.#options.rotateMs, () => this.#rotate(epoch));
    } else void this.handOver(successor).catch(() => undefined);
  }

  async #untilWritten({ sequencer }: Reigning): Promise<void> {
    const { io, log } = this.#options;
    const deadlineMs = io.clock.monotonicMs() + drainTimeoutMs;
    while ((await log.tail()) < sequencer.metrics().next) {
      if (io.clock.monotonicMs() >= deadlineMs) return;
      await pause(this.#options.io, pollMs);
    }
  }

  #holdsBack(): boolean {
    return this.#options.io.clock.monotonicMs() < this.#holdBackUntilMs;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
