import type { ChangeId, Payload } from './change-record.ts';
import { pendingFrom } from './conditional.ts';
import { dropPending } from './entities.ts';
import { membersMax, originate, presentMembers } from './journal.ts';
import { refusal } from './refusal.ts';
import { type Expelling, type Left, type Member, rows } from './rows.ts';
import { get, put, remove, rowsUnder, type Step } from './step.ts';

/*
 * A member that is gone for good cannot resign, so the others expel it. One of them proposes it;
 * every other one answers with how far it knows the lost node, and hears it no more. When all have
 * answered, nobody can know more of it than the highest answer: that is its final mark. The proposer
 * fetches what it lacks up to there and ends it. A node that was only away finds itself shut out;
 * what it had not passed on is not in the registry.
 */

/** Members that are being expelled. */
export function* expulsions(): Step<readonly Expelling[]> {
  return (yield* rowsUnder('expelling|', membersMax)).map(({ value }) => value as Expelling);
}

/**
 * Refuses what comes from a node that has left or is being expelled.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_userMismatch`)
 */
export function* checkPeer(node: string): Step<void> {
  const member = yield* get<Member>(rows.member(node));
  if (member?.heir !== undefined || (yield* get(rows.expelling(node))) !== undefined) {
    throw refusal('E_userMismatch', `${node} has no part in the registry any more`);
  }
}

/** Why a member cannot be expelled, if so. */
export function* expulsionProblem(
  proposer: string,
  { node, heir }: { readonly node: string; readonly heir: string },
  vouched: boolean,
): Step<string | undefined> {
  const present = yield* presentMembers();
  const open = yield* expulsions();
  const going = new Set(open.map((one) => one.node));
  if (going.has(proposer)) return `${proposer} is being expelled itself`;
  // A proposal of one who is going himself nobody may be left to end: the new one takes its place.
  const current = open.find((one) => one.node === node);
  if (current !== undefined && !going.has(current.id.origin)) {
    return `${node} is being expelled already`;
  }
  // Or both could end up as heirs of one another.
  if (going.has(heir)) return `${heir}, the heir, is being expelled`;
  going.add(node);
  const staying = present.length - going.size;
  if (!vouched && staying * 2 <= present.length) {
    return `those who stay, ${staying} of ${present.length}, are no majority`;
  }
  return undefined;
}

/** Takes a proposal: the reason against it, or nothing, and then it is answered. */
export function* applyExpel(
  self: string,
  id: ChangeId,
  { node, heir, vouched }: Extract<Payload, { type: 'expel' }>,
): Step<string | undefined> {
  const member = yield* get<Member>(rows.member(node));
  if (member?.heir !== undefined) return undefined;
  if (node !== self) {
    const problem = yield* expulsionProblem(id.origin, { node, heir }, vouched);
    if (problem !== undefined) return problem;
  }
  yield* put(rows.expelling(node), { node, id, heir, marks: {} } satisfies Expelling);
  if (node !== self && id.origin !== self) yield* answerExpulsion(self, node, id);
  return undefined;
}

/** Says how far this node knows one that is being expelled. */
export function* answerExpulsion(self: string, node: string, of: ChangeId): Step<void> {
  const mark = (yield* get<number>(rows.seen(node))) ?? 0;
  const answer = { type: 'frozen', of, mark } as const;
  yield* originate(self, answer);
  // Noted here, too: who copies this node's rows has the answer behind him.
  yield* applyFrozen(self, answer);
}

/** Notes an answer to a proposal. */
export function* applyFrozen(
  by: string,
  { of, mark }: Extract<Payload, { type: 'frozen' }>,
): Step<void> {
  const own = (yield* expulsions()).find(({ id }) => isSame(id, of));
  if (own === undefined) return;
  const marks = { ...own.marks, [by]: mark };
  yield* put(rows.expelling(own.node), { ...own, marks } satisfies Expelling);
}

/** Ends own proposals that all have answered; true when one ended. */
export function* retire(self: string): Step<boolean> {
  let ended = false;
  for (const { node, id, heir, marks } of yield* expulsions()) {
    if (id.origin !== self) continue;
    const going = new Set((yield* expulsions()).map((one) => one.node));
    const asked = (yield* presentMembers()).filter((member) => !going.has(member));
    if (!asked.every((member) => member === self || marks[member] !== undefined)) continue;
    const seen = (yield* get<number>(rows.seen(node))) ?? 0;
    const final = Math.max(seen, ...asked.map((member) => marks[member] ?? 0));
    // Others have records of it that come first.
    if (seen < final) continue;
    const payload = { type: 'retired', node, heir, final } as const;
    yield* applyRetired(yield* originate(self, payload, true), payload);
    ended = true;
  }
  return ended;
}

/** Whether a `retired` can be taken: all records of the node were. True for any other record. */
export function* retireReady(payload: Payload): Step<boolean> {
  if (payload.type !== 'retired') return true;
  if ((yield* get(rows.left(payload.node))) !== undefined) return true;
  return ((yield* get<number>(rows.seen(payload.node))) ?? 0) >= payload.final;
}

/** Takes a node out of membership and vector. */
export function* applyRetired(
  by: ChangeId,
  { node, heir, final }: Extract<Payload, { type: 'retired' }>,
): Step<void> {
  if ((yield* get(rows.left(node))) !== undefined) return;
  yield* put(rows.member(node), { node, heir } satisfies Member);
  const left: Left = { final, by: { origin: by.origin, usn: by.usn } };
  yield* put(rows.left(node), left);
  yield* remove(rows.seen(node));
  yield* remove(rows.expelling(node));
  for (const pending of yield* pendingFrom(node)) yield* dropPending(pending);
  // What it had proposed itself nobody can end any more; another may propose it again.
  for (const { node: other, id } of yield* expulsions()) {
    if (id.origin === node) yield* remove(rows.expelling(other));
  }
}

/**
 * A proposal failed, by its proposer's own word or by an objection to this node's; false when the
 * failure is about something else.
 */
export function* dropExpulsion(
  self: string,
  by: string,
  of: ChangeId,
  reason: string,
): Step<boolean> {
  const failed = (yield* expulsions()).find(({ id }) => isSame(id, of));
  if (failed === undefined) return false;
  if (by !== of.origin && of.origin !== self) {
    // Kept for a proposer that takes a full copy from here.
    const objection = failed.objection ?? { by, reason };
    yield* put(rows.expelling(failed.node), { ...failed, objection } satisfies Expelling);
    return true;
  }
  yield* remove(rows.expelling(failed.node));
  if (of.origin === self && by !== self) {
    yield* originate(self, { type: 'conditionFailed', of, reason: `${by}: ${reason}` });
  }
  return true;
}

function isSame(one: ChangeId, other: ChangeId): boolean {
  return one.origin === other.origin && one.usn === other.usn;
}
