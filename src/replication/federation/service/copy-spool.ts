import { join } from 'node:path';
import type { Io } from '../../../io/index.ts';
import { type CopyPage, type Row, refusal } from '../core/index.ts';
import type { FullCopyPage } from '../uddi/index.ts';
import type { RegistryLedger } from './registry-ledger.ts';

const pageRows = 500;
const attemptsMax = 5;
/** How long one copy serves those who ask for a new one: what came after it they pull. */
const freshMs = 60_000;

interface Spool {
  readonly id: string;
  readonly madeMs: number;
  readonly pages: number;
  readonly marks: FullCopyPage['marks'];
}

/**
 * Full copies for nodes that join or come back late. The rows of one state of the registry are
 * written to files first, so a slow reader holds nobody up; while they are read, this service
 * changes nothing.
 */
export class CopySpool {
  readonly #io: Pick<Io, 'clock' | 'disk' | 'random'>;
  readonly #ledger: RegistryLedger;
  readonly #directory: string;
  readonly #relayable: (rows: readonly Row[]) => readonly Row[];
  #current: Promise<Spool> | undefined;

  /** @param relayable - signs what a page has of this node's own journal. */
  constructor(
    io: Pick<Io, 'clock' | 'disk' | 'random'>,
    ledger: RegistryLedger,
    directory: string,
    relayable: (rows: readonly Row[]) => readonly Row[],
  ) {
    this.#io = io;
    this.#ledger = ledger;
    this.#directory = directory;
    this.#relayable = relayable;
  }

  /**
   * A page of a copy; without `copy` of one that was made lately, or of a new one.
   *
   * @throws {DaybookError} `REGISTRY_REFUSED` (`E_requestDenied`) when the copy is gone: begin anew.
   */
  async page(copy: string | undefined, number: number): Promise<FullCopyPage> {
    const spool = copy === undefined ? await this.#fresh() : await this.#current;
    if (spool === undefined || (copy !== undefined && spool.id !== copy)) {
      throw refusal('E_requestDenied', 'that copy is gone: begin anew');
    }
    if (number >= spool.pages) throw refusal('E_invalidValue', 'the copy has no such page');
    const bytes = await this.#io.disk.readFile(this.#file(spool.id, number));
    if (bytes === undefined) throw refusal('E_requestDenied', 'that copy is gone: begin anew');
    const rows = JSON.parse(bytes.toString('utf8')) as FullCopyPage['rows'];
    return { copy: spool.id, pages: spool.pages, marks: spool.marks, rows };
  }

  async #fresh(): Promise<Spool> {
    const current = await this.#current?.catch(() => undefined);
    const nowMs = this.#io.clock.monotonicMs();
    if (current !== undefined && nowMs - current.madeMs < freshMs) return current;
    this.#current = this.#ledger.undisturbed(() => this.#write());
    return await this.#current;
  }

  async #write(): Promise<Spool> {
    await this.#io.disk.remove(this.#directory);
    await this.#io.disk.makeDirectory(this.#directory);
    for (let attempt = 1; ; attempt++) {
      const id = this.#io.random.bytes(8).toString('hex');
      const first = await this.#ledger.copyPage(pageRows);
      let pages = 0;
      let page: CopyPage = first;
      for (;;) {
        const bytes = Buffer.from(JSON.stringify(this.#relayable(page.rows)));
        await this.#io.disk.writeFile(this.#file(id, pages++), bytes);
        if (page.next === undefined) break;
        page = await this.#ledger.copyPage(pageRows, page.next);
        if (page.revision !== first.revision) break;
      }
      // A publisher who writes to the ledger by himself can come between.
      if (page.revision === first.revision) {
        return { id, madeMs: this.#io.clock.monotonicMs(), pages, marks: first.marks };
      }
      if (attempt === attemptsMax) throw refusal('E_busy', 'the registry changes all the time');
    }
  }

  #file(id: string, page: number): string {
    return join(this.#directory, `${id}-${page}.json`);
  }
}
