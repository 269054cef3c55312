import type { GuestCall } from './current-call.ts';

/**
 * An error that the sandbox throws into the contract. Its code is out of the contract's reach: it
 * becomes the code of the outcome when the contract lets the error through.
 */
export class SandboxError extends Error {
  readonly #code: string;

  constructor(code: string, message: string) {
    super(message);
    this.#code = code;
  }

  /** The code of a sandbox error, `undefined` for any other value. Calls no contract code. */
  static codeOf(value: unknown): string | undefined {
    return typeof value === 'object' && value !== null && #code in value ? value.#code : undefined;
  }
}

/** For parts of Fabric's API that Daybook does not have. */
export function unsupported(what: string): SandboxError {
  return new SandboxError('CONTRACT_UNSUPPORTED', `${what} is not supported`);
}

/** For what has no place in a deterministic call. */
export function nondeterministic(what: string): SandboxError {
  return new SandboxError(
    'CONTRACT_NONDETERMINISTIC',
    `${what} is not available in a contract: every executor must get the same result`,
  );
}

/** @throws the error of a call that has ended or must end */
export function demandOpen(call: GuestCall): void {
  if (!call.open) throw new SandboxError('CONTRACT_REJECTED', 'the transaction has already ended');
  if (call.fatal !== undefined) throw call.fatal;
}
