import { bytestringOfText, limits } from '../../base/index.ts';
import { type Io, realIo } from '../../io/index.ts';
import { asAddress, type CommitRecord, positionOf, stateKey } from '../../model/index.ts';
import type { AppliedEntry } from '../../replica/index.ts';
import type { Row } from '../../state/index.ts';
import { decryptPage, publicHalf } from '../encryption.ts';
import type { Feed, FollowerIntroduction } from '../feed.ts';
import type { JournalSource } from '../journal.ts';
import { decodePage } from '../page.ts';
import { type FollowerService, openFollowerService } from '../service.ts';

/** Writes of one commit of a test: key → content, `undefined` deletes. */
export type TestCommit = Readonly<Record<string, string | undefined>>;

/** A ledger in memory, of one contract `catalog`. */
export class TestLedger implements JournalSource {
  readonly channel = 'main';
  readonly entries: AppliedEntry[] = [];
  readonly state = new Map<string, { content: string; position: number }>();
  /** Entries before it are gone. */
  trimmed = 0;
  #waiters: (() => void)[] = [];

  /** Appends one entry; returns its address. A record is invalid when `invalid` says so. */
  append(
    commits: readonly TestCommit[],
    invalid: (index: number) => boolean = () => false,
  ): number {
    const address = asAddress(this.entries.length);
    const logTimeMs = 1_000_000 + address;
    const records = commits.map((commit, index) => {
      const position = positionOf(address, index);
      const verdict = invalid(index) ? (11 as const) : (0 as const);
      if (verdict === 0) {
        for (const [key, content] of Object.entries(commit)) {
          if (content === undefined) this.state.delete(key);
          else this.state.set(key, { content, position });
        }
      }
      return { position, record: recordOf(address, index, commit), verdict };
    });
    this.entries.push({ address, entry: undefined, records, logTimeMs });
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
    return address;
  }

  nextAddress = (): ReturnType<JournalSource['nextAddress']> => asAddress(this.entries.length);

  logTimeMs = (): number => this.entries.at(-1)?.logTimeMs ?? 0;

  waitFor = async (position: number, waitMs: number): Promise<boolean> => {
    const there = (): boolean => position < positionOf(this.nextAddress(), 0);
    if (there() || waitMs <= 0) return there();
    await Promise.race([
      new Promise<void>((resolve) => this.#waiters.push(resolve)),
      new Promise((resolve) => setTimeout(resolve, waitMs)),
    ]);
    return there();
  };

  read: JournalSource['read'] = async (from, limit) => {
    if (from < this.trimmed) {
      const { DaybookError } = await import('../../base/index.ts');
      throw new DaybookError('LOG_TRIMMED', 'trimmed');
    }
    return this.entries.slice(from, from + limit);
  };

  rows: JournalSource['rows'] = (start, end, limit) => {
    const found: Row[] = [];
    const keys = [...this.state.keys()].map((key) => [
      stateKey('catalog', bytestringOfText(key)),
      key,
    ]);
    keys.sort((a, b) => ((a[0] as string) < (b[0] as string) ? -1 : 1));
    for (const [whole, key] of keys as [string, string][]) {
      if (whole < start || (end !== '' && whole >= end)) continue;
      const { content, position } = this.state.get(key) as { content: string; position: number };
      found.push({ key: whole, value: bytestringOfText(content), version: position as never });
      if (found.length >= limit) break;
    }
    return found;
  };
}

function recordOf(address: number, index: number, commit: TestCommit): CommitRecord {
  const txId = Buffer.alloc(32);
  txId.writeUInt32BE(address * limits.recordsPerEntryMax + index, 28);
  return {
    type: 'call',
    txId,
    batch: 0,
    leaf: index,
    transactionBytes: Buffer.alloc(0),
    contractVersion: '1',
    sets: [
      {
        namespace: 'catalog',
        reads: [],
        ranges: [],
        writes: Object.entries(commit)
          .map(([key, content]) => ({
            key: bytestringOfText(key),
            value: content === undefined ? undefined : bytestringOfText(content),
          }))
          .sort((a, b) => (a.key < b.key ? -1 : 1)),
        bulkUpdates: [],
      },
    ],
    result: '',
    event: undefined,
  };
}

/** A service's answers without a network between. */
export function localFeed(service: FollowerService, channel = 'main'): Feed {
  const request = ({
    run,
    subscription,
    applied,
    keys,
    changesMax,
    filling,
    parked,
  }: FollowerIntroduction) => ({
    run,
    subscription,
    changesMax,
    filling,
    parked,
    format: 'compact' as const,
    ...(applied === undefined ? {} : { applied }),
    ...(keys[0] === undefined ? {} : { key: publicHalf(keys[0]) }),
  });
  const open = (body: string, introduction: FollowerIntroduction, from: number | undefined) =>
    introduction.keys.length === 0
      ? Promise.resolve(body)
      : decryptPage(body, introduction.keys, { channel, follower: introduction.follower, from });
  return {
    pull: async (introduction, cursor, at, waitMs) => {
      const body = { ...request(introduction), cursor, waitMs };
      const answer = await service.pull(introduction.follower, '', body);
      return decodePage(await open(answer.body, introduction, at));
    },
    scan: async (introduction, from, resume) => {
      const body = {
        ...request(introduction),
        ...(from === undefined ? {} : { from }),
        ...(resume === undefined ? {} : { resume }),
      };
      const answer = await service.scan(introduction.follower, '', body);
      const text = await open(answer.body, introduction, from);
      const end = text.indexOf('\n');
      const head = JSON.parse(text.slice(0, end)) as { resume: string | null };
      return { page: decodePage(text.slice(end + 1)), resume: head.resume ?? undefined };
    },
    applied: async (introduction) =>
      service.applied(introduction.follower, '', request(introduction)).confirmed,
    close: () => Promise.resolve(),
  };
}

/** A disk for registries, in memory. */
export function memoryDisk(): Io['disk'] {
  const files = new Map<string, Buffer>();
  return {
    makeDirectory: () => Promise.resolve(),
    readFile: (path: string) => Promise.resolve(files.get(path)),
    writeFile: (path: string, bytes: Uint8Array) => {
      files.set(path, Buffer.from(bytes));
      return Promise.resolve();
    },
  } as unknown as Io['disk'];
}

/** A follower service of a ledger in memory, with nothing on disk. */
export function memoryFollowers(source: JournalSource): Promise<FollowerService> {
  const io = { ...realIo(), disk: memoryDisk() };
  return openFollowerService({ io, source, directory: '/f', cursorKey: Buffer.alloc(32, 7) });
}
