import type { ChangeRecord } from './change.ts';
import type { Page } from './page.ts';

/**
 * Media type of a page in the form that is the quickest to write and to read: a line of JSON with
 * all but the contents, then the contents themselves, one after the other, as they are.
 */
export const compactMediaType = 'application/vnd.daybook.page';

/** Changes one after the other that were made by one commit in one contract. */
type Commit = readonly [
  position: number,
  timeMs: number,
  txId: string,
  contract: string,
  count: number,
];

/** The line. */
interface CompactHead {
  readonly page: Omit<Page, 'changes'>;
  readonly commits: readonly Commit[];
  readonly keys: readonly string[];
  /** UTF-16 code units of each content; -1: there is none. */
  readonly lengths: readonly number[];
  /** Which changes have `encoding: 'base64'`. */
  readonly base64: readonly number[];
}

/** Whether it is {@link encodeCompactPage}'s text. */
export function isCompactPage(text: string): boolean {
  return text.startsWith('[');
}

/** A page as text, whole or not at all: see {@link compactMediaType}. */
export function encodeCompactPage({ changes, ...page }: Page): string {
  const commits: [...Commit][] = [];
  const keys: string[] = [];
  const lengths: number[] = [];
  const base64: number[] = [];
  const contents: string[] = [];
  let last: ChangeRecord | undefined;
  let commit: [...Commit] = [0, 0, '', '', 0];
  for (const change of changes) {
    const { position, timeMs, txId, contract, content } = change;
    if (
      position !== last?.position ||
      timeMs !== last.timeMs ||
      txId !== last.txId ||
      contract !== last.contract
    ) {
      commit = [position, timeMs, txId, contract, 0];
      commits.push(commit);
    }
    last = change;
    commit[4]++;
    if (change.encoding !== undefined) base64.push(keys.length);
    keys.push(change.key);
    lengths.push(content === undefined ? -1 : content.length);
    if (content !== undefined) contents.push(content);
  }
  const head: CompactHead = { page, commits, keys, lengths, base64 };
  return `[${JSON.stringify(head)}]\n${contents.join('')}`;
}

/**
 * Reads {@link encodeCompactPage}'s text.
 *
 * @throws {Error} it is cut off or damaged.
 */
export function decodeCompactPage(text: string): Page {
  const end = text.indexOf('\n');
  const [head] = JSON.parse(text.slice(0, end)) as [CompactHead];
  const { keys, lengths } = head;
  const base64 = new Set(head.base64);
  const changes: ChangeRecord[] = [];
  let at = end + 1;
  for (const [position, timeMs, txId, contract, count] of head.commits) {
    const last = changes.length + count;
    if (last > keys.length) throw new Error('keys are missing');
    while (changes.length < last) {
      const key = keys[changes.length] as string;
      const length = lengths[changes.length] as number;
      const content = length < 0 ? undefined : text.slice(at, at + length);
      at += Math.max(0, length);
      const change = { position, timeMs, txId, contract, key, content };
      const isBase64 = base64.size > 0 && base64.has(changes.length);
      changes.push(isBase64 ? { ...change, encoding: 'base64' } : change);
    }
  }
  const whole = keys.length === changes.length && lengths.length === changes.length;
  if (!whole || at !== text.length) throw new Error('contents are missing');
  const { from, next, cursor, tail } = head.page;
  return { from, next, cursor, tail, changes };
}
