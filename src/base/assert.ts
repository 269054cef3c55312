/**
 * Stops on a broken invariant: a bug in Daybook, never bad input. Stays on in production.
 *
 * @throws {AssertionError} which no layer may catch and go on.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** A broken invariant. The process must stop: what it holds in memory can no longer be trusted. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Marks a branch that the type checker proves unreachable. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
