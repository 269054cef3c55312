import { DaybookError } from '../base/index.ts';

/** The error for an address that cannot be listened on. */
export function listenFailed(address: string, cause: unknown): DaybookError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DaybookError('LISTEN_FAILED', `cannot listen on ${address}: ${why}`, {
    details: { address },
    cause,
  });
}
