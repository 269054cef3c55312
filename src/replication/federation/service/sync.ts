import { DaybookError, isDaybookError } from '../../../base/index.ts';
import type { Io, Timer } from '../../../io/index.ts';
import type { ChangeRecord, Vector } from '../core/index.ts';
import { uddiCodeOf } from '../core/index.ts';
import {
  checkEmptyAnswer,
  fullCopyIn,
  fullCopyRequest,
  notification,
  pullAnswerIn,
  pullRequest,
} from '../uddi/index.ts';
import type { PeerLink } from './peer-link.ts';
import type { RegistryLedger } from './registry-ledger.ts';
import type { Authorities } from './signing.ts';

const pageRecords = 500;
const recordsPerCommit = 100;
/** They travel as one argument of a call (`argumentBytesMax`). */
const recordBytesPerCommit = 1_000_000;
const copiedRowsPerCommit = 2_000;

/** Settings of {@link Sync}. */
export interface SyncOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly node: string;
  readonly ledger: RegistryLedger;
  readonly links: readonly PeerLink[];
  readonly authorities: Authorities;
  /** How often every peer is pulled from without being asked to. */
  readonly intervalMs: number;
  readonly onEvent: (text: string) => void;
}

/** What is known of a peer. */
export interface PeerState {
  readonly node: string;
  /** Records taken from it since the service runs. */
  readonly taken: number;
  readonly copies: number;
  /** Why the last attempt failed. */
  readonly problem?: string;
}

/**
 * Pulls from all peers, one after another: when one says that it has something, and every now and
 * then in any case. One attempt drains whatever there is. What was taken is in the ledger, so a
 * service that dies goes on where it was.
 */
export class Sync {
  readonly #options: SyncOptions;
  readonly #states = new Map<string, PeerState>();
  readonly #wanted = new Set<string>();
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #telling: Promise<void> | undefined;
  #told = '';
  #closed = false;

  constructor(options: SyncOptions) {
    this.#options = options;
    for (const { peer } of options.links) {
      this.#states.set(peer.node, { node: peer.node, taken: 0, copies: 0 });
    }
  }

  start(): void {
    this.pullSoon();
  }

  states(): readonly PeerState[] {
    return [...this.#states.values()];
  }

  /** Pulls from a peer, or from all, as soon as what is under way has ended. */
  pullSoon(peer?: string): void {
    if (this.#closed) return;
    for (const { peer: known } of this.#options.links) {
      if (peer === undefined || known.node === peer) this.#wanted.add(known.node);
    }
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#wanted.size > 0) this.pullSoon();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
    await this.#telling;
  }

  async #run(): Promise<void> {
    this.#timer?.cancel();
    let taken = 0;
    while (this.#wanted.size > 0 && !this.#closed) {
      const [node] = this.#wanted;
      if (node === undefined) break;
      this.#wanted.delete(node);
      const link = this.#options.links.find(({ peer }) => peer.node === node);
      if (link?.peer.url === undefined) continue;
      try {
        taken += await this.#drain(link);
        this.#note(node, { problem: undefined });
      } catch (error) {
        const problem = error instanceof Error ? error.message : String(error);
        if (this.#states.get(node)?.problem !== problem) {
          this.#options.onEvent(`${node}: ${problem}`);
        }
        this.#note(node, { problem });
      }
    }
    // What one peer lacked of another's it can have now; and its answers may be waited for.
    this.tell();
    if (this.#closed) return;
    const { io, intervalMs } = this.#options;
    this.#timer = io.timers.after(taken > 0 ? Math.min(intervalMs, 50) : intervalMs, () =>
      this.pullSoon(),
    );
  }

  #note(
    node: string,
    change: { taken?: number; copies?: number; problem?: string | undefined },
  ): void {
    const { problem: before, ...old } = this.#states.get(node) ?? { node, taken: 0, copies: 0 };
    const problem = 'problem' in change ? change.problem : before;
    const { taken = 0, copies = 0 } = change;
    this.#states.set(node, {
      ...old,
      taken: old.taken + taken,
      copies: old.copies + copies,
      ...(problem === undefined ? {} : { problem }),
    });
  }

  /** Tells all peers what this node has, if that is news. */
  tell(): void {
    this.#telling ??= this.#tellAll().finally(() => {
      this.#telling = undefined;
    });
  }

  async #tellAll(): Promise<void> {
    let marks: Vector;
    try {
      marks = await this.#options.ledger.highWaterMarks();
    } catch {
      return;
    }
    const text = JSON.stringify(marks);
    if (text === this.#told) return;
    const message = notification(this.#options.node, marks);
    const told = await Promise.all(
      this.#options.links.map(async (link) => {
        if (link.peer.url === undefined) return true;
        try {
          checkEmptyAnswer(await link.post(message));
          return true;
        } catch {
          // It pulls by itself when it is back.
          return false;
        }
      }),
    );
    if (told.every(Boolean)) this.#told = text;
  }

  async #drain(link: PeerLink): Promise<number> {
    const { node, ledger } = this.#options;
    let taken = 0;
    if ((await ledger.self())?.copying === true) await this.#copy(link);
    while (!this.#closed) {
      const marks = await ledger.askingMarks();
      const answer = pullAnswerIn(await link.post(pullRequest(node, marks, pageRecords)));
      if (answer.type === 'copy-needed') {
        await this.#copy(link);
        continue;
      }
      if (answer.records.length === 0) break;
      const got = await this.#take(link, answer.records, answer.certificates);
      this.#note(link.peer.node, { taken: got });
      taken += got;
      if (got === 0) break;
    }
    return taken;
  }

  async #take(
    link: PeerLink,
    records: readonly ChangeRecord[],
    certificates: Readonly<Record<string, string>>,
  ): Promise<number> {
    const { authorities, ledger, onEvent } = this.#options;
    let taken = 0;
    let group: ChangeRecord[] = [];
    let bytes = 0;
    const used: Record<string, string> = {};
    const commit = async (): Promise<void> => {
      if (group.length === 0) return;
      const received = await ledger.receive(group, link.peer.node, used);
      taken += received.taken;
      for (const { origin, usn } of received.quarantined) {
        onEvent(`${origin}#${usn} has no effect here; ${origin} is told`);
      }
      group = [];
      bytes = 0;
    };
    for (const record of records) {
      const problem = authorities.problem(record, certificates);
      if (problem !== undefined) {
        await commit();
        throw new DaybookError(
          'SIGNATURE_INVALID',
          `${record.origin}#${record.usn} from ${link.peer.node} is not taken: ${problem}`,
        );
      }
      const { signature } = record;
      const pem = signature === undefined ? undefined : certificates[signature.certificate];
      if (signature !== undefined && pem !== undefined) used[signature.certificate] = pem;
      const recordBytes = Buffer.byteLength(JSON.stringify(record));
      if (bytes + recordBytes > recordBytesPerCommit) await commit();
      group.push(record);
      bytes += recordBytes;
      if (group.length >= recordsPerCommit) await commit();
    }
    await commit();
    return taken;
  }

  /** Takes a full copy; one that was broken off is begun anew. */
  async #copy(link: PeerLink): Promise<void> {
    const { ledger, onEvent } = this.#options;
    const { node } = link.peer;
    const first = fullCopyIn(await link.post(fullCopyRequest(undefined, 0)));
    onEvent(`takes a full copy of ${node}, ${first.pages} pages`);
    try {
      while (!(await ledger.beginCopy(first.marks, copiedRowsPerCommit)));
    } catch (error) {
      // The peer lacks something that this node has: it pulls first.
      if (isDaybookError(error) && uddiCodeOf(error) === 'E_busy') {
        this.#told = '';
        this.tell();
      }
      throw error;
    }
    for (let number = 0; number < first.pages; number++) {
      const page =
        number === 0 ? first : fullCopyIn(await link.post(fullCopyRequest(first.copy, number)));
      await ledger.writeCopy(page.rows);
    }
    await ledger.endCopy();
    this.#note(node, { copies: 1 });
  }
}
