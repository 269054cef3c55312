import type { ChangeId, ChangeRecord, Vector } from './change-record.ts';
import { failOwn, pendingFrom, resolveIfComplete } from './conditional.ts';
import { keysOf } from './entities.ts';
import { examine } from './examine.ts';
import { answerExpulsion, dropExpulsion, expulsions } from './expulsion.ts';
import {
  allMarks,
  allMembers,
  append,
  checkWhole,
  highWaterMarks,
  originate,
  selfId,
} from './journal.ts';
import { noteOutcome, outcomesMax } from './outcomes.ts';
import { applyPayload, releaseWaiting, settleExpulsions } from './receive.ts';
import { refusal } from './refusal.ts';
import {
  copiedPrefixes,
  journalPrefix,
  type Outcome,
  type Pending,
  rows,
  type Tail,
} from './rows.ts';
import { get, put, type Row, remove, rowsUnder, type Step } from './step.ts';

/*
 * A node that joins takes a full copy of another node's rows and goes on from its marks; so does one
 * that asks a node whose journal does not reach back far enough. The journal is copied, too: it holds
 * whatever some member may lack, so that no member ever needs a copy of one that copied. What the node
 * changed itself meanwhile is kept and done again on top.
 */

/** A part of a full copy. */
export interface CopyPage {
  readonly rows: readonly Row[];
  /** Where the next page begins; absent on the last. */
  readonly next?: string;
  /** Pages belong together only when this is the same in all of them. */
  readonly revision: number;
  readonly marks: Vector;
}

/**
 * Reads one page of a full copy of this node, from `after` (exclusive) on.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_busy`) while this node itself takes one.
 */
export function* copyPage(limit: number, after?: string): Step<CopyPage> {
  yield* checkWhole();
  const revision = ((yield* get<Tail>(rows.tail))?.nextSequence ?? 1) - 1;
  const marks = yield* allMarks();
  const found: Row[] = [];
  for (const prefix of copiedPrefixes) {
    if (after !== undefined && after >= `${prefix}~`) continue;
    const inside = after?.startsWith(prefix) === true ? after : undefined;
    found.push(...(yield* rowsUnder(prefix, limit - found.length, inside)));
    const last = found.at(-1);
    if (found.length === limit && last !== undefined) {
      return { rows: found, next: last.key, revision, marks };
    }
  }
  return { rows: found, revision, marks };
}

/**
 * Begins a full copy from a node with these marks: rows of this node go, at most `limit` a call;
 * call again until it returns true. Until {@link endCopy} the node takes no operations.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_busy`) when this node knows something of a third
 *   that the source does not: let the source pull from this node first.
 */
export function* beginCopy(source: Vector, limit: number): Step<boolean> {
  const self = yield* selfId();
  if ((yield* get(rows.copying)) === undefined) {
    for (const [origin, mark] of Object.entries(yield* highWaterMarks())) {
      if (origin !== self && mark > (source[origin] ?? 0)) {
        throw refusal('E_busy', `the source lacks records of ${origin}`);
      }
    }
    yield* put(rows.copying, { lastOwn: (yield* get<number>(rows.seen(self))) ?? 0 });
  }
  let left = limit;
  for (const prefix of copiedPrefixes) {
    const found = yield* rowsUnder(prefix, left);
    for (const { key, value } of found) {
      if (prefix === journalPrefix) yield* keepOwn(self, value as ChangeRecord);
      yield* remove(key);
    }
    left -= found.length;
    if (left === 0) return false;
  }
  return true;
}

/** The source of this copy, or of another one after it, may lack it. */
function* keepOwn(self: string, record: ChangeRecord): Step<void> {
  if (record.origin !== self || (yield* get(rows.kept(record.usn))) !== undefined) return;
  yield* put(rows.kept(record.usn), record);
}

/** Writes a page of the copy. */
export function* writeCopy(page: readonly Row[]): Step<void> {
  for (const { key, value } of page) {
    if (!copiedPrefixes.some((prefix) => key.startsWith(prefix))) {
      throw refusal('E_fatalError', `${key} has no place in a full copy`);
    }
    yield* put(key, value);
  }
}

/** Ends a full copy: own changes that the source lacked are done again; open conditions answered. */
export function* endCopy(nowMs: number): Step<void> {
  const self = yield* selfId();
  const copying = yield* get<{ lastOwn: number }>(rows.copying);
  if (copying === undefined) throw refusal('E_requestDenied', 'no copy is under way');
  const known = (yield* get<number>(rows.seen(self))) ?? 0;
  if (known > copying.lastOwn) {
    throw refusal(
      'E_fatalError',
      `others know ${self}#${known}, this node only #${copying.lastOwn}`,
    );
  }
  const own: ChangeRecord[] = [];
  for (let usn = known + 1; usn <= copying.lastOwn; usn++) {
    const record = yield* get<ChangeRecord>(rows.kept(usn));
    if (record !== undefined) own.push(record);
  }
  yield* remove(rows.copying);
  const refused: { readonly id: ChangeId; readonly reason: string }[] = [];
  for (const record of own) {
    yield* append(record);
    const effect = yield* applyPayload(self, record, record.payload, nowMs);
    if (effect.type === 'objection' && record.payload.type === 'expel') {
      refused.push({ id: { origin: self, usn: record.usn }, reason: effect.reason });
    }
  }
  // New numbers come after those of the records that were done again.
  for (const { id: of, reason } of refused) {
    yield* originate(self, { type: 'conditionFailed', of, reason });
  }
  for (const { node } of yield* allMembers()) {
    for (const pending of yield* pendingFrom(node)) yield* answerPending(self, pending, nowMs);
  }
  for (const { node, id, objection } of yield* expulsions()) {
    if (id.origin === self) {
      if (objection !== undefined) yield* dropExpulsion(self, objection.by, id, objection.reason);
    } else if (node !== self) yield* answerExpulsion(self, node, id);
  }
  yield* settleExpulsions(self, nowMs);
  for (const { value } of yield* rowsUnder('outcome|', outcomesMax)) {
    const outcome = value as Outcome;
    if (outcome.state !== 'pending') continue;
    if ((yield* get(rows.pending(outcome.change))) === undefined) {
      const stored = yield* get(rows.entity(outcome.key));
      yield* noteOutcome({ ...outcome, state: stored === undefined ? 'failed' : 'committed' });
    }
  }
}

function* answerPending(self: string, pending: Pending, nowMs: number): Step<void> {
  if (pending.id.origin === self) {
    const { objection } = pending;
    if (objection !== undefined) yield* failOwn(self, pending, objection.by, objection.reason);
    else if (yield* resolveIfComplete(self, pending)) {
      for (const key of keysOf(pending.entity)) yield* releaseWaiting(self, key, nowMs);
    }
    return;
  }
  if (pending.acknowledgedBy.includes(self)) return;
  const verdict = yield* examine(pending.id.origin, pending.entity, false);
  if (verdict.type === 'refused') {
    const reason = `${verdict.code}: ${verdict.reason}`;
    yield* put(rows.pending(pending.id), { ...pending, objection: { by: self, reason } });
    yield* originate(self, { type: 'conditionFailed', of: pending.id, reason });
    return;
  }
  const acknowledgedBy = [...pending.acknowledgedBy, self];
  yield* put(rows.pending(pending.id), { ...pending, acknowledgedBy });
  yield* originate(self, { type: 'acknowledge', of: pending.id });
}
