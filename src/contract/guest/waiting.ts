import { activate, type GuestCall } from './current-call.ts';
import { SandboxError } from './errors.ts';
import type { HostFunctions, HostReply } from './host-functions.ts';

/* State operations that wait for a lock or for another contract. */

interface Waiter {
  readonly call: GuestCall;
  /** Takes the answer out of the host while it lies there. */
  readonly take: (value: string | undefined) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

// No Map: its methods could have been replaced by a contract.
const waiters = Object.create(null) as Record<number, Waiter>;
const RealmPromise = Promise;

/** The answer of an operation that was answered `reply`, now or later. */
export function answered<T>(
  host: HostFunctions,
  call: GuestCall,
  reply: HostReply,
  take: (value: string | undefined) => T,
): T | Promise<T> {
  if (reply === true) return take(undefined);
  if (reply === false) throw hostError(host);
  return waitFor(call, reply, take);
}

/** What the host brings under `ticket`; see {@link resume}. */
export function waitFor<T>(
  call: GuestCall,
  ticket: number,
  take: (value: string | undefined) => T,
): Promise<T> {
  return new RealmPromise<T>((resolve, reject) => {
    waiters[ticket] = { call, take, resolve: resolve as (value: unknown) => void, reject };
  });
}

/** The host brings an answer; what the contract does next belongs to the call that waited. */
export function resume(
  host: HostFunctions,
  ticket: number,
  ok: boolean,
  value: string | undefined,
): void {
  const waiter = waiters[ticket];
  if (waiter === undefined) return;
  delete waiters[ticket];
  activate(waiter.call);
  if (!ok) {
    waiter.reject(hostError(host));
    return;
  }
  try {
    waiter.resolve(waiter.take(value));
  } catch (error) {
    waiter.reject(error);
  }
}

/** The answer will not come, as the call has ended. */
export function drop(ticket: number): void {
  delete waiters[ticket];
}

/** What the host reported last, as an error of this realm. */
export function hostError(host: HostFunctions): SandboxError {
  return new SandboxError(host.lastCode(), host.lastError());
}
