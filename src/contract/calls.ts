import {
  type Bytestring,
  type DaybookError,
  type ErrorCode,
  isDaybookError,
} from '../base/index.ts';
import type { CreatorFacts } from './creator.ts';
import type { Guest } from './guest/main.ts';
import type { CallOutcome, ContractCall, StateAccess } from './runtime.ts';

/** A call on its way: a client's, or one that another contract made (`parent`). */
export interface OpenCall {
  readonly id: number;
  readonly call: ContractCall;
  /** Contract whose code runs and whose namespace it sees. */
  readonly contract: string;
  readonly access: StateAccess;
  /** The realm of the version that was installed when it began. */
  readonly guest: Guest;
  readonly parent: OpenCall | undefined;
  readonly settle: (outcome: CallOutcome) => void;
  readonly abort: (error: unknown) => void;
  /** Operations that wait for a lock or for another contract. */
  waiting: number;
  event: { readonly name: string; readonly payload: Bytestring } | undefined;
  creator: CreatorFacts | undefined;
  /** Set when a nested call failed: its writes cannot be taken back, so the whole call fails. */
  nestedFailure: Extract<CallOutcome, { ok: false }> | undefined;
}

/** Rows of the last answer, until the guest has fetched them. */
export interface AnswerRows {
  readonly keys: readonly Bytestring[];
  readonly values: readonly (Bytestring | undefined)[];
  readonly txIds: readonly string[];
  readonly timestampsMs: readonly number[];
  readonly bookmark: Bytestring;
}

/** What the guest fetches after an operation. */
export interface Answers {
  rows: AnswerRows;
  errorCode: ErrorCode;
  errorMessage: string;
}

/** Before anything was answered. */
export const noRows: AnswerRows = {
  keys: [],
  values: [],
  txIds: [],
  timestampsMs: [],
  bookmark: '',
};

/**
 * True for an error of the state that the contract made itself and may catch. All others abort the
 * call.
 */
export function isContractsOwn(error: unknown): error is DaybookError {
  return isDaybookError(error, 'QUERY_INVALID', 'INVALID_ARGUMENT', 'CONTRACT_UNSUPPORTED');
}
