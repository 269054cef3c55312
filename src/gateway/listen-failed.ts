import { DaybookError } from '../base/index.ts';

/** The error for a port that cannot be had. */
export function listenFailed(host: string, port: number, cause: unknown): DaybookError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DaybookError('LISTEN_FAILED', `cannot listen on ${host}:${port}: ${why}`, {
    details: { address: `${host}:${port}` },
    cause,
  });
}
