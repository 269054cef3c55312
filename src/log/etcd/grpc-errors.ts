import { type ServiceError, status } from '@grpc/grpc-js';
import { DaybookError, isDaybookError } from '../../base/index.ts';

/** What to do after a failed call. */
export type CallVerdict = 'elsewhere' | 'again' | 'authenticate' | 'denied' | 'space' | 'fail';

/** After these nobody knows whether the call was done: another member is asked. */
const unanswered: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

/** Sorts gRPC's status codes and etcd's texts, both as of etcd 3.4 and 3.5. */
export function verdictOf(error: ServiceError): CallVerdict {
  const { code } = error;
  const says = (text: string): boolean => (error.details ?? error.message).includes(text);
  if (unanswered.has(code)) return 'elsewhere';
  if (code === status.RESOURCE_EXHAUSTED)
    return says('database space exceeded') ? 'space' : 'again';
  if (code === status.UNAUTHENTICATED || says('revision of auth store is old')) {
    return 'authenticate';
  }
  const denied = says('authentication failed') || says('user name is empty');
  return code === status.PERMISSION_DENIED || denied ? 'denied' : 'fail';
}

/**
 * The error for a log whose space is nearly used up, so that writers wait for a trim; with etcd's refusal as
 * `cause`: for one that is at its quota.
 */
export function spaceExhausted(cause?: unknown): DaybookError {
  const message =
    cause === undefined
      ? 'the space of the log is used up: trim it'
      : 'etcd has reached its quota, and takes nothing until the log is trimmed or the quota is larger';
  return new DaybookError('OVERLOADED', message, {
    details: { limit: 'logSpaceBytes' },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The error for a node that cannot start because etcd takes nothing any more; any other as it is. */
export function asQuotaReached(error: unknown): unknown {
  if (!isDaybookError(error, 'OVERLOADED') || !isRefusedForSpace(error.cause)) return error;
  return new DaybookError('LOG_QUOTA_REACHED', error.message, { cause: error });
}

function isRefusedForSpace(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && verdictOf(cause as ServiceError) === 'space';
}

/** True when the revision that a call named is compacted away. */
export function isCompacted(error: unknown): boolean {
  const cause = error instanceof DaybookError ? error.cause : undefined;
  return (cause as Partial<ServiceError> | undefined)?.code === status.OUT_OF_RANGE;
}
