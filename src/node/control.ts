import type { ClusterSettings } from './cluster-node.ts';
import type { ExecutorNodeStatus, TlsFiles } from './executor-node.ts';
import type { PeerFiles } from './node-blocks.ts';
import type { RepairSettings } from './repair/node-repair.ts';

/* What a supervisor and an executor process say to each other beside log and sequencer. */

/** Arguments of the executor process, as JSON in its first argument. */
export interface ExecutorProcessOptions {
  readonly name: string;
  readonly directory: string;
  readonly channel: string;
  readonly sequencer: boolean;
  readonly host: string;
  readonly port: number;
  readonly cursorKeyFile: string;
  readonly blocks?: PeerFiles;
  readonly tls?: TlsFiles;
  readonly openReads?: boolean;
  readonly repair?: RepairSettings;
  /** Many machines: the log is not the supervisor's. */
  readonly cluster?: ClusterSettings;
}

/** First words of an executor process: where it listens, or the `ErrorJson` of why it does not. */
export type Started =
  | { readonly url: string; readonly port: number }
  | { readonly error: { readonly code: string; readonly message: string } };

/**
 * RPC methods. `started`, `event`, `others` and `relay` are called by the executor, the others by the
 * supervisor. `others` answers the names of the other executors; `relay` passes a call on to one of
 * them: u64 method, text name, payload.
 */
export const controlMethods = {
  started: 200,
  event: 201,
  status: 202,
  stop: 203,
  others: 204,
  relay: 205,
} as const;

/** JSON as an RPC payload. */
export function toPayload(
  value: Started | ExecutorNodeStatus | string | readonly string[],
): Uint8Array[] {
  return [Buffer.from(JSON.stringify(value))];
}

/** Reads {@link toPayload}. */
export function fromPayload<T>(payload: Buffer): T {
  return JSON.parse(payload.toString('utf8')) as T;
}
