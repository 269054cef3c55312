import { join } from 'node:path';
import { limits, toDaybookError } from '../../base/index.ts';
import type { BlockService, BlockStatus, RootStatement, RootVerdict } from '../../blocks/index.ts';
import type { Io } from '../../io/index.ts';
import type { ChannelConfig, IdentityVerifier, Position } from '../../model/index.ts';
import { lmdbStores, type StateSettings, type Stores } from '../../state/index.ts';
import { Guard } from './guard.ts';
import type { OtherNodes } from './other-nodes.ts';
import { type Doubt, RepairDirectory, type RepairRecord, sentenceOf } from './repair-record.ts';
import { restoreFromMajority } from './restore.ts';
import { watchRoots } from './root-watch.ts';

/** How a node looks after its state. Plain JSON. */
export interface RepairSettings {
  /** Pause between two comparisons with other nodes. Default 1,000 ms. */
  readonly intervalMs?: number;
  /** Rows of the state that are compared with the state tree per second; 0: none. Default 2,000. */
  readonly scrubRowsPerS?: number;
  /** Bytes of stored blocks that are read per second, to see whether they rotted; 0: none. Default 4 MiB. */
  readonly sweepBytesPerS?: number;
}

/** Pause between two comparisons of roots, and how fast rows are compared and blocks read. */
export const repairDefaults = {
  intervalMs: 1_000,
  scrubRowsPerS: 2_000,
  sweepBytesPerS: 4 * 1024 * 1024,
} as const;

/** Settings of {@link openNodeRepair}. */
export interface NodeRepairOptions extends RepairSettings {
  readonly io: Pick<Io, 'clock' | 'disk' | 'random' | 'timers'>;
  readonly name: string;
  readonly channel: string;
  /** Of the node. */
  readonly directory: string;
  readonly stateDirectory: string;
  readonly chainDirectory: string;
  /** As the state will be opened with. */
  readonly stateSettings?: StateSettings;
  /** Default {@link lmdbStores}. */
  readonly stores?: Stores;
  readonly others: OtherNodes;
  /** How long to wait for a majority to sign the block that a snapshot ends with. Default 30,000 ms. */
  readonly claimsWaitMs?: number;
  /** Called once when the node must start again: its record says what for. */
  readonly onDiverged: () => void;
  readonly onEvent: (text: string) => void;
}

/** Parts of a node that serves. */
export interface WatchedNode {
  /** @throws {DaybookError} while it is being opened. */
  readonly blocks: () => Pick<BlockService, 'now' | 'statement' | 'block' | 'alarm'>;
  readonly verifier: () => IdentityVerifier;
  readonly config: () => ChannelConfig;
  /** How far the log was replayed when the node started: a restored node is judged from there on. */
  readonly replayed: Position;
}

/** Finds out where the repair of a node's state stands. */
export async function openNodeRepair(options: NodeRepairOptions): Promise<NodeRepair> {
  const files = new RepairDirectory(options.io.disk, options.directory);
  return new NodeRepair(options, files, await files.read());
}

/**
 * Looks after the state of one node: compares its roots with the other nodes' and its rows with its
 * state tree; closes the guard at the first doubt, keeps the evidence, and leaves a record of what is
 * to be done when the node starts again. A node that was restored serves once it agrees with the
 * majority, and halts when it does not.
 */
export class NodeRepair {
  readonly guard = new Guard();
  readonly #options: NodeRepairOptions;
  readonly #files: RepairDirectory;
  readonly #ending = new AbortController();
  #record: RepairRecord | undefined;
  #watch: { close(): Promise<void> } | undefined;
  #doubted = false;
  /** Number of blocks that hold all that was replayed at the start. */
  #judgedFrom: number | undefined;
  #busy: Promise<void> = Promise.resolve();

  /** Use {@link openNodeRepair}. */
  constructor(
    options: NodeRepairOptions,
    files: RepairDirectory,
    record: RepairRecord | undefined,
  ) {
    this.#options = options;
    this.#files = files;
    this.#record = record;
    if (record !== undefined) this.#show(record);
  }

  /** True: nothing may be opened; the node waits for a person. */
  get halted(): boolean {
    return this.#record?.state === 'halted';
  }

  /** True: {@link NodeRepair.restore} comes before anything is opened. */
  get asked(): boolean {
    return this.#record?.state === 'asked';
  }

  /** Restores the majority's snapshot; resolves when the state may be opened. */
  async restore(): Promise<void> {
    const { io, channel, stateDirectory, chainDirectory, others, onEvent } = this.#options;
    const { stateSettings = {}, stores = lmdbStores } = this.#options;
    const { claimsWaitMs = claimsWaitMsDefault } = this.#options;
    if (this.#record === undefined) return;
    this.#record = await restoreFromMajority(
      {
        io,
        channel,
        stateDirectory,
        chainDirectory,
        stateSettings,
        stores,
        others,
        files: this.#files,
        claimsWaitMs,
        signal: this.#ending.signal,
        onEvent,
      },
      this.#record,
    );
    this.#show(this.#record);
  }

  /** Begins to compare. */
  watch(node: WatchedNode): void {
    const { io, name, others, intervalMs = repairDefaults.intervalMs } = this.#options;
    this.#watch = watchRoots({
      io,
      name,
      others,
      intervalMs,
      blocks: node.blocks,
      verifier: node.verifier,
      onVerdict: (verdict) => this.#onVerdict(verdict),
      onStatus: (status) => this.#onStatus(status, node.replayed),
      onDoubt: (doubt, statements) => this.#onDoubt(doubt, statements, node),
    });
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await this.#watch?.close();
    await this.#busy;
  }

  #show(record: RepairRecord): void {
    const { state, reason, evidence } = record;
    const told = { asked: 'repairing', restored: 'comparing', halted: 'halted' } as const;
    this.guard.set({ state: told[state], reason, evidence });
  }

  #onStatus({ height, covered, scrub }: BlockStatus, replayed: Position): void {
    // What was restored agrees by itself; what counts is what this node made of the log since.
    if (covered !== undefined && covered >= replayed) this.#judgedFrom ??= height;
    if (scrub === undefined) return;
    this.guard.note({ scrubbedRows: scrub.rows, scrubPasses: scrub.passes });
  }

  #onVerdict(verdict: RootVerdict): void {
    if (verdict.kind !== 'agrees' || this.#doubted) return;
    const record = this.#record;
    if (record !== undefined) {
      const from = this.#judgedFrom;
      if (from === undefined || verdict.height < Math.max(from, record.height)) return;
      this.#record = undefined;
      this.#busy = this.#files.finish(record).then(
        () => {
          this.guard.set({ state: 'serving' });
          this.#options.onEvent(
            `the state agrees with the majority after ${verdict.height} blocks: it serves again`,
          );
        },
        (error: unknown) => {
          this.#record = record;
          this.#options.onEvent(`the repair cannot be ended: ${toDaybookError(error).message}`);
        },
      );
      return;
    }
    this.guard.note({ agreedHeight: verdict.height });
  }

  #onDoubt(doubt: Doubt, statements: readonly RootStatement[], node: WatchedNode): void {
    if (this.#doubted) return;
    this.#doubted = true;
    const again = this.#record !== undefined;
    const reason = sentenceOf(doubt);
    // First of all: from here on nobody gets an answer out of this state.
    this.guard.set({ state: again ? 'halted' : 'repairing', reason });
    this.#options.onEvent(`ALARM the state of this node is wrong, it serves no more: ${reason}`);
    this.#busy = this.#keep(doubt, statements, node, again, reason).catch((error: unknown) => {
      this.#options.onEvent(`the evidence cannot be kept: ${toDaybookError(error).message}`);
    });
  }

  async #keep(
    doubt: Doubt,
    statements: readonly RootStatement[],
    node: WatchedNode,
    again: boolean,
    reason: string,
  ): Promise<void> {
    const { io, onDiverged, onEvent } = this.#options;
    const nowMs = io.clock.nowMs();
    const lately = (await this.#files.times()).filter((timeMs) => timeMs > nowMs - hourMs);
    const height = doubt.kind === 'differs' ? doubt.height : await heightOf(node);
    const block =
      doubt.kind === 'differs' ? await node.blocks().block(doubt.height - 1) : undefined;
    const evidence = await this.#files.keep(nowMs, {
      'verdict.json': { reason, ...doubt },
      'statements.json': statements,
      ...(block === undefined ? {} : { 'own-block.pb': block }),
    });
    const halts = again || lately.length >= limits.repairsPerHourMax;
    const record: RepairRecord = {
      state: halts ? 'halted' : 'asked',
      reason: halts ? `after a repair ${reason}` : reason,
      evidence,
      msps: node.config().msps,
      height,
      ...(doubt.kind === 'differs' ? { own: doubt.own } : {}),
    };
    await this.#files.write(record);
    // Nobody shall catch up from snapshots of a state that is in doubt.
    await io.disk.remove(join(this.#options.directory, 'snapshots'));
    if (halts) {
      onEvent(
        `ALARM this node HALTS: the state is wrong again after it was restored: ${reason}. ` +
          `See ${evidence}; it starts anew when ${join(this.#files.path, 'record.json')} is removed`,
      );
    }
    onDiverged();
  }
}

/** Number of its blocks; 0 when they cannot be opened. */
async function heightOf({ blocks }: WatchedNode): Promise<number> {
  try {
    return (await blocks().now()).height;
  } catch {
    return 0;
  }
}

const hourMs = 3_600_000;
const claimsWaitMsDefault = 30_000;
