/*
 * What a contract needs of the protocol: all but the store in memory, whose tree has no place in a
 * bundle.
 */
export * from './assertion-key.ts';
export * from './change-record.ts';
export * from './compaction.ts';
export { custodianOf } from './custody.ts';
export { holderOf } from './entities.ts';
export { expulsions } from './expulsion.ts';
export * from './full-copy.ts';
export {
  allMarks,
  askingMarks,
  highWaterMarks,
  type PullAnswer,
  presentMembers,
  pull,
  selfId,
} from './journal.ts';
export { isGenerator, isUddiKey, prefixOf, successorOf } from './key-space.ts';
export { outcomeOf } from './outcomes.ts';
export * from './publish.ts';
export { type Received, receive } from './receive.ts';
export { refusal, uddiCodeOf } from './refusal.ts';
export {
  type Expelling,
  journalPrefix,
  type Member,
  type Outcome,
  type Pending,
  type Quarantined,
  rows,
  type StoredEntity,
} from './rows.ts';
export * from './step.ts';
export { type UddiErrorCode, uddiErrors } from './uddi-errors.ts';
