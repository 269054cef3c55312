import { type ServiceError, status } from '@grpc/grpc-js';
import { DaybookError } from '../../base/index.ts';

/** What to do after a failed call. */
export type CallVerdict = 'elsewhere' | 'again' | 'authenticate' | 'denied' | 'space' | 'fail';

/** Sorts gRPC's status codes and etcd's texts, both as of etcd 3.4 and 3.5. */
export function verdictOf(error: ServiceError): CallVerdict {
  const text = error.details ?? error.message;
  switch (error.code) {
    case status.RESOURCE_EXHAUSTED:
      return text.includes('database space exceeded') ? 'space' : 'again';
    case status.UNAUTHENTICATED:
      return 'authenticate';
    case status.PERMISSION_DENIED:
      return 'denied';
    case status.INVALID_ARGUMENT:
      if (text.includes('revision of auth store is old')) return 'authenticate';
      return text.includes('authentication failed') || text.includes('user name is empty')
        ? 'denied'
        : 'fail';
    case status.CANCELLED:
    case status.UNKNOWN:
    case status.DEADLINE_EXCEEDED:
    case status.ABORTED:
    case status.INTERNAL:
    case status.UNAVAILABLE:
      return 'elsewhere';
    default:
      return 'fail';
  }
}

/** The error for a log whose space is, or nearly is, used up. */
export function spaceExhausted(cause?: unknown): DaybookError {
  return new DaybookError('OVERLOADED', 'the space of the log is used up: trim it', {
    details: { limit: 'logSpaceBytes' },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** True when the revision that a call named is compacted away. */
export function isCompacted(error: unknown): boolean {
  const cause = error instanceof DaybookError ? error.cause : undefined;
  return (cause as Partial<ServiceError> | undefined)?.code === status.OUT_OF_RANGE;
}
