import { createRequire } from 'node:module';
import {
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/*
 * The part of etcd's v3 gRPC API that the log uses, as it looks after proto-loader: field names as
 * in the protocol, 64-bit integers as decimal strings, every field of an answer present.
 */

/** Names of etcd's gRPC services. */
export type ServiceName = 'KV' | 'Watch' | 'Lease' | 'Maintenance' | 'Auth';

/** A key with its value, and the revisions of its creation and last change. */
export interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly create_revision: string;
  readonly mod_revision: string;
  /** `0`: none. */
  readonly lease: string;
}

/** Says who answered and at which revision of the store. */
export interface ResponseHeader {
  readonly cluster_id: string;
  readonly member_id: string;
  readonly revision: string;
}

/** Reads the keys in `[key, range_end)`, or `key` alone. */
export interface RangeRequest {
  readonly key: Buffer;
  readonly range_end?: Buffer;
  readonly limit?: number;
  readonly keys_only?: boolean;
  readonly count_only?: boolean;
}

/** `count` counts the whole range, also behind `limit`. */
export interface RangeResponse {
  readonly header: ResponseHeader;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  readonly count: string;
}

/** Numbers of `Compare.target`. */
export const compareTarget = { create: 1, mod: 2, lease: 4 } as const;
/** Numbers of `Compare.result`. */
export const compareResult = { equal: 0, greater: 1 } as const;

/** One condition of a transaction. */
export interface Compare {
  readonly key: Buffer;
  readonly target: number;
  readonly result: number;
  readonly create_revision?: number;
  readonly mod_revision?: number;
  readonly lease?: string;
}

/** One operation of a transaction. */
export interface RequestOp {
  readonly request_range?: RangeRequest;
  readonly request_put?: { key: Buffer; value: Buffer; lease?: string };
  readonly request_delete_range?: { key: Buffer; range_end?: Buffer };
  readonly request_txn?: TxnRequest;
}

/** If all of `compare` hold then `success`, else `failure`; atomic and linearizable. */
export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure?: readonly RequestOp[];
}

/** Answer of one operation of a transaction. */
export interface ResponseOp {
  readonly response_range?: RangeResponse | null;
  readonly response_txn?: TxnResponse | null;
}

/** `responses` belong to the branch that ran. */
export interface TxnResponse {
  readonly header: ResponseHeader;
  readonly succeeded: boolean;
  readonly responses: readonly ResponseOp[];
}

/** A message of a watch stream. */
export interface WatchResponse {
  readonly header: ResponseHeader;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compact_revision: string;
  readonly cancel_reason: string;
  readonly events: readonly { readonly type: number; readonly kv: KeyValue }[];
}

/** Size and leader as one member sees them; bytes. */
export interface StatusResponse {
  readonly header: ResponseHeader;
  readonly version: string;
  readonly dbSize: string;
  readonly dbSizeInUse: string;
  readonly leader: string;
}

/** A raised alarm; `alarm` 1 is NOSPACE. */
export interface AlarmMember {
  readonly memberID: string;
  readonly alarm: number;
}

/** Request and answer of every unary call that the log makes. */
export interface Calls {
  range: { service: 'KV'; request: RangeRequest; response: RangeResponse };
  txn: { service: 'KV'; request: TxnRequest; response: TxnResponse };
  put: {
    service: 'KV';
    request: { key: Buffer; value: Buffer; lease?: string };
    response: { header: ResponseHeader };
  };
  deleteRange: {
    service: 'KV';
    request: { key: Buffer; range_end?: Buffer };
    response: { header: ResponseHeader; deleted: string };
  };
  compact: {
    service: 'KV';
    request: { revision: string; physical?: boolean };
    response: { header: ResponseHeader };
  };
  leaseGrant: {
    service: 'Lease';
    request: { TTL: number; ID?: string };
    response: { header: ResponseHeader; ID: string; TTL: string };
  };
  leaseRevoke: {
    service: 'Lease';
    request: { ID: string };
    response: { header: ResponseHeader };
  };
  status: { service: 'Maintenance'; request: object; response: StatusResponse };
  defragment: {
    service: 'Maintenance';
    request: object;
    response: { header: ResponseHeader };
  };
  alarm: {
    service: 'Maintenance';
    request: { action: number; memberID?: string; alarm?: number };
    response: { header: ResponseHeader; alarms: readonly AlarmMember[] };
  };
  authenticate: {
    service: 'Auth';
    request: { name: string; password: string };
    response: { header: ResponseHeader; token: string };
  };
}

/** Name of a unary call. */
export type CallName = keyof Calls;

/** The service that each call belongs to. */
export const serviceOf: { readonly [Name in CallName]: Calls[Name]['service'] } = {
  range: 'KV',
  txn: 'KV',
  put: 'KV',
  deleteRange: 'KV',
  compact: 'KV',
  leaseGrant: 'Lease',
  leaseRevoke: 'Lease',
  status: 'Maintenance',
  defragment: 'Maintenance',
  alarm: 'Maintenance',
  authenticate: 'Auth',
};

let loaded: Record<ServiceName, ServiceClientConstructor> | undefined;

/** Client constructors of etcd's services, made from the protocol files of the `etcd3` package. */
export function etcdServices(): Record<ServiceName, ServiceClientConstructor> {
  if (loaded === undefined) {
    const file = createRequire(import.meta.url).resolve('etcd3/proto/rpc.proto');
    const definition = loadSync(file, {
      keepCase: true,
      longs: String,
      defaults: true,
      oneofs: true,
    });
    const root: GrpcObject = loadPackageDefinition(definition);
    loaded = root.etcdserverpb as unknown as Record<ServiceName, ServiceClientConstructor>;
  }
  return loaded;
}
