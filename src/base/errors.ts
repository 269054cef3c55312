import { type ErrorCode, errorCatalog, type Retry } from './error-catalog.ts';

export type { ErrorCode, Retry } from './error-catalog.ts';
export { errorCatalog } from './error-catalog.ts';

/** What a {@link DaybookError} carries beside its code: plain JSON values that name the culprit. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * The one error family of Daybook. Verdicts that belong to the protocol (a conflict, an invalid
 * record) are values; a thrown `DaybookError` means that the attempt itself failed.
 *
 * `code` is literal and listed with cause and remedy in `docs/errors.md`; `retry` says what helps:
 * `never` (the request itself is wrong), `same` (send the very same bytes again later),
 * `refresh` (take fresh state, token or configuration first).
 */
export class DaybookError extends Error {
  override readonly name = 'DaybookError';
  readonly code: ErrorCode;
  readonly retry: Retry;
  readonly details: ErrorDetails;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: ErrorDetails; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retry = errorCatalog[code].retry;
    this.details = options.details ?? {};
  }

  /** The form in which errors cross process borders and appear in `--json` output. */
  toJSON(): ErrorJson {
    return errorJson(this.code, this.message, this.details);
  }

  /** Rebuilds an error that another Daybook process sent; an unknown code becomes `INTERNAL`. */
  static fromJSON(json: ErrorJson): DaybookError {
    const code = json.code in errorCatalog ? (json.code as ErrorCode) : 'INTERNAL';
    return new DaybookError(code, json.message, { details: json.details ?? {} });
  }
}

/** JSON form of a {@link DaybookError}. */
export interface ErrorJson {
  code: string;
  message: string;
  retry?: Retry;
  details?: ErrorDetails;
}

/**
 * What {@link DaybookError.toJSON} gives, of an error that nobody throws: a stack trace costs more
 * than most calls.
 */
export function errorJson(code: ErrorCode, message: string, details: ErrorDetails = {}): ErrorJson {
  return { code, message, retry: errorCatalog[code].retry, details };
}

/** True for a `DaybookError`, optionally with one of the given codes. */
export function isDaybookError(error: unknown, ...codes: ErrorCode[]): error is DaybookError {
  return error instanceof DaybookError && (codes.length === 0 || codes.includes(error.code));
}

/** Wraps anything thrown into a `DaybookError`; a `DaybookError` passes through unchanged. */
export function toDaybookError(error: unknown, code: ErrorCode = 'INTERNAL'): DaybookError {
  if (error instanceof DaybookError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new DaybookError(code, message, { cause: error });
}
