import { DaybookError, type ErrorCode } from '../base/index.ts';

/** Exit codes of the `daybook` command; `daybook --help` lists them. */
export const exitCodes = {
  ok: 0,
  /** The ledger, or a contract, said no: nothing was written. */
  refused: 1,
  /** The command line, or a file it names, is wrong. */
  usage: 2,
  /** No gateway or database answered, or none has room now: trying later may help. */
  unreachable: 3,
  /** No answer in time: the transaction may still commit. Look it up by its id. */
  unknownOutcome: 4,
  /** A bug in Daybook, or a broken machine (EX_SOFTWARE of sysexits). */
  internal: 70,
} as const;

/** One of {@link exitCodes}. */
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

// What is not listed was refused by the ledger.
const byErrorCode: Partial<Record<ErrorCode, ExitCode>> = {
  USAGE: exitCodes.usage,
  INVALID_ARGUMENT: exitCodes.usage,
  CONFIG_INVALID: exitCodes.usage,
  NOT_FOUND: exitCodes.usage,
  CONTRACT_BUNDLE_INVALID: exitCodes.usage,
  LISTEN_FAILED: exitCodes.usage,
  PEER_UNREACHABLE: exitCodes.unreachable,
  CLOSED: exitCodes.unreachable,
  TIMEOUT: exitCodes.unreachable,
  OVERLOADED: exitCodes.unreachable,
  LOG_QUOTA_REACHED: exitCodes.unreachable,
  SINK_UNAVAILABLE: exitCodes.unreachable,
  SOURCE_UNAVAILABLE: exitCodes.unreachable,
  OUTCOME_UNKNOWN: exitCodes.unknownOutcome,
  INTERNAL: exitCodes.internal,
  IO_FAILED: exitCodes.internal,
  DISK_FULL: exitCodes.internal,
  LOG_DAMAGED: exitCodes.internal,
  STATE_DAMAGED: exitCodes.internal,
};

/** What a system says of a path that the user had better not named. */
const wrongPaths: ReadonlySet<unknown> = new Set([
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOTDIR',
  'EPERM',
  'EROFS',
]);

/** The exit code for anything thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof DaybookError)) return exitCodes.internal;
  if (error.code === 'IO_FAILED' && wrongPaths.has(error.details.cause)) return exitCodes.usage;
  return byErrorCode[error.code] ?? exitCodes.refused;
}
