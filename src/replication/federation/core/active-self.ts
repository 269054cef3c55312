import { checkWhole, selfId } from './journal.ts';
import { refusal } from './refusal.ts';
import { type Member, rows } from './rows.ts';
import { get, type Step } from './step.ts';

/** This node, as long as it may make changes. */
export function* activeSelf(): Step<string> {
  const self = yield* selfId();
  const member = yield* get<Member>(rows.member(self));
  if (member === undefined) throw refusal('E_busy', `${self} is not admitted yet`);
  if (member.heir !== undefined) throw refusal('E_requestDenied', `${self} has left`);
  if ((yield* get(rows.expelling(self))) !== undefined) {
    throw refusal('E_requestDenied', `the others expel ${self}`);
  }
  yield* checkWhole();
  return self;
}
