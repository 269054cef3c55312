import { DaybookError } from '../base/index.ts';
import type { ChangeRecord } from './change.ts';
import { decodeCompactPage, isCompactPage } from './compact-page.ts';

/** Changes in log order. Pages never split a commit. */
export interface Page {
  /** First position of the log that the page covers. */
  readonly from: number;
  /** First position behind it. */
  readonly next: number;
  /** Where to pull on: stands for `next`. */
  readonly cursor: string;
  /** First position that the node had not applied when it made the page. */
  readonly tail: number;
  readonly changes: readonly ChangeRecord[];
}

/** Media type of {@link encodePage}. */
export const pageMediaType = 'application/x-ndjson';

/**
 * A page as NDJSON: one line per change, then a line that closes the page. A page without that line
 * was cut off on its way.
 */
export function encodePage(page: Page): string {
  let text = '';
  let head = '';
  let last: ChangeRecord | undefined;
  for (const change of page.changes) {
    const { position, timeMs, txId, contract, key, content, encoding } = change;
    // Changes of one commit begin alike.
    if (
      position !== last?.position ||
      timeMs !== last.timeMs ||
      txId !== last.txId ||
      contract !== last.contract
    ) {
      const common = { position, timeMs, txId, contract };
      head = `${JSON.stringify(common).slice(0, -1)},"key":`;
    }
    last = change;
    text += head + JSON.stringify(key);
    if (content !== undefined) text += `,"content":${JSON.stringify(content)}`;
    text += encoding === undefined ? '}\n' : `,"encoding":"${encoding}"}\n`;
  }
  const { from, next, cursor, tail, changes } = page;
  return `${text}${JSON.stringify({ page: { from, next, cursor, tail, count: changes.length } })}\n`;
}

/**
 * Reads the text of {@link encodePage}, or of `encodeCompactPage`.
 *
 * @throws {DaybookError} `MALFORMED`, also when the page was cut off.
 */
export function decodePage(text: string): Page {
  try {
    return isCompactPage(text) ? decodeCompactPage(text) : decodeLines(text);
  } catch (cause) {
    throw new DaybookError('MALFORMED', 'a page of changes is cut off or damaged', {
      details: { what: 'page' },
      cause,
    });
  }
}

function decodeLines(text: string): Page {
  const end = text.endsWith('\n') ? text.length - 1 : -1;
  const lastLine = end < 0 ? '' : text.slice(text.lastIndexOf('\n', end - 1) + 1, end);
  const changesText = text.slice(0, Math.max(0, end - lastLine.length));
  const { page } = JSON.parse(lastLine) as { page: Omit<Page, 'changes'> & { count: number } };
  const { from, next, cursor, tail, count } = page;
  // One parse of all lines costs half of a parse for each.
  const changes = JSON.parse(`[${changesText.trimEnd().replaceAll('\n', ',')}]`) as ChangeRecord[];
  if (changes.length !== count) throw new Error('lines are missing');
  return { from, next, cursor, tail, changes };
}
