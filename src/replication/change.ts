import { isUtf8 } from 'node:buffer';
import { type Bytestring, bytesOf, textOf } from '../base/index.ts';

/**
 * One change of one entity, derived from a commit. It carries the whole new content (an
 * after-image), so applying it twice equals applying it once.
 */
export interface ChangeRecord {
  /**
   * Position of the commit in the log, and at the same time the entity's revision: of two changes
   * of one entity the later has the greater position, on every node.
   */
  readonly position: number;
  /** Log time of the commit, milliseconds since 1970. */
  readonly timeMs: number;
  /** Transaction that made the change, 64 hexadecimal digits; empty for a row of a scan. */
  readonly txId: string;
  /** Contract whose state the entity is part of. */
  readonly contract: string;
  /** The entity: its key in that contract. */
  readonly key: string;
  /** The new content; `undefined` when the entity is gone, or no longer selected. */
  readonly content: string | undefined;
  /** How `content` is written: bytes that are no UTF-8 are sent as base64. Default `utf8`. */
  readonly encoding?: 'base64';
}

/** Name of a change that is unique in its channel. */
export function changeId(change: ChangeRecord): string {
  return `${change.position}/${change.contract}/${change.key}`;
}

/** Name of the entity that a change is about. */
export function entityOf(change: Pick<ChangeRecord, 'contract' | 'key'>): string {
  return `${change.contract}/${change.key}`;
}

/** The content of a change parsed as JSON; `undefined` when the entity is gone. */
export function jsonOf<T = unknown>(change: ChangeRecord): T | undefined {
  return change.content === undefined ? undefined : (JSON.parse(change.content) as T);
}

const notAscii = /[^\t\n\r\x20-\x7e]/;

/** A value of the state in the form of {@link ChangeRecord.content}. */
export function contentOf(
  value: Bytestring | undefined,
): Pick<ChangeRecord, 'content' | 'encoding'> {
  if (value === undefined || !notAscii.test(value)) return { content: value };
  const bytes = bytesOf(value);
  if (isUtf8(bytes)) return { content: textOf(value) };
  return { content: bytes.toString('base64'), encoding: 'base64' };
}
