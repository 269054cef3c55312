import { lowerBound } from '../src/base/index.ts';
import type {
  Compare,
  KeyValue,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  TxnRequest,
  TxnResponse,
} from '../src/log/etcd/etcd-api.ts';
import { compareResult, compareTarget } from '../src/log/etcd/etcd-api.ts';
import { storedBytes } from './etcd-space.ts';

/** A refusal as gRPC would carry it. */
export class EtcdFailure extends Error {
  /** gRPC's status. */
  readonly code: number;
  readonly details: string;

  constructor(code: number, details: string) {
    super(`${code} ${details}`);
    this.code = code;
    this.details = details;
  }
}

/** gRPC's numbers for what the model answers. */
export const grpcStatus = {
  cancelled: 1,
  unknown: 2,
  deadlineExceeded: 4,
  notFound: 5,
  resourceExhausted: 8,
  outOfRange: 11,
  unimplemented: 12,
  unavailable: 14,
} as const;

/** One change, as watches report it. */
export interface StoreEvent {
  readonly revision: number;
  readonly key: string;
  readonly type: 'put' | 'delete';
  readonly kv: KeyValue;
}

interface Row {
  readonly value: Buffer;
  readonly created: number;
  readonly modified: number;
  readonly lease: string | undefined;
  /** What this revision takes in a file. */
  readonly bytes: number;
}

const nothing = Buffer.alloc(0);

/**
 * etcd's store as the documentation of its v3 API describes it: one revision for every transaction
 * that changes something, conditions on revisions and leases, changes kept until compaction. A plain
 * state machine: what it is given is applied in that order, which is what linearizable means.
 */
export class EtcdStore {
  readonly clusterId: string;
  readonly events: StoreEvent[] = [];
  revision = 1;
  /** Changes at this revision and before are forgotten. */
  compacted = 0;
  /** What the revisions since the last look take in a file, all of them and the largest. */
  #growth = { bytes: 0, largestBytes: 0 };
  /** What goes when the store is compacted at the revision, or later. */
  readonly #garbage: { readonly revision: number; readonly bytes: number }[] = [];
  readonly #rows = new Map<string, Row>();
  /** Keys of the rows, ascending. */
  readonly #keys: string[] = [];
  /** Keys by lease. */
  readonly #leases = new Map<string, Set<string>>();

  constructor(clusterId: string) {
    this.clusterId = clusterId;
  }

  header(memberId: string): ResponseHeader {
    return {
      cluster_id: this.clusterId,
      member_id: memberId,
      revision: String(this.revision),
    };
  }

  range(request: RangeRequest, memberId: string): RangeResponse {
    const { key, range_end, limit = 0, keys_only = false, count_only = false } = request;
    const keys = this.#keysIn(key, range_end);
    const chosen = count_only ? [] : limit > 0 ? keys.slice(0, limit) : keys;
    return {
      header: this.header(memberId),
      kvs: chosen.map((name) => keyValue(name, this.#rows.get(name) as Row, keys_only)),
      more: chosen.length < keys.length && !count_only,
      count: String(keys.length),
    };
  }

  /** @throws {EtcdFailure} and changes nothing then. */
  txn(request: TxnRequest, memberId: string): TxnResponse {
    checkPuts(request.success);
    const change = { revision: this.revision + 1, changed: false };
    const answer = this.#run(request, memberId, change);
    if (change.changed) this.revision = change.revision;
    return { ...answer, header: this.header(memberId) };
  }

  /** What was written since this was asked last. */
  takeGrowth(): { readonly bytes: number; readonly largestBytes: number } {
    const growth = this.#growth;
    this.#growth = { bytes: 0, largestBytes: 0 };
    return growth;
  }

  #grow(bytes: number): void {
    this.#growth.bytes += bytes;
    this.#growth.largestBytes = Math.max(this.#growth.largestBytes, bytes);
  }

  grantLease(id: string): void {
    this.#leases.set(id, new Set());
  }

  hasLease(id: string): boolean {
    return this.#leases.has(id);
  }

  /** Ends a lease; its keys go in one revision. */
  endLease(id: string): void {
    const keys = this.#leases.get(id);
    this.#leases.delete(id);
    if (keys === undefined || keys.size === 0) return;
    const revision = this.revision + 1;
    for (const key of [...keys].sort()) this.#delete(key, revision);
    this.revision = revision;
  }

  /**
   * Returns the bytes that the files need no more.
   *
   * @throws {EtcdFailure} out of range
   */
  compact(revision: number): number {
    const outOfRange = (is: string): EtcdFailure =>
      new EtcdFailure(grpcStatus.outOfRange, `etcdserver: mvcc: required revision ${is}`);
    if (revision <= this.compacted) throw outOfRange('has been compacted');
    if (revision > this.revision) throw outOfRange('is a future revision');
    this.compacted = revision;
    const first = this.events.findIndex((event) => event.revision > revision);
    this.events.splice(0, first < 0 ? this.events.length : first);
    const kept = this.#garbage.findIndex((piece) => piece.revision > revision);
    const gone = this.#garbage.splice(0, kept < 0 ? this.#garbage.length : kept);
    return gone.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #run(request: TxnRequest, memberId: string, change: Change): TxnResponse {
    const succeeded = request.compare.every((compare) => this.#holds(compare));
    const branch = succeeded ? request.success : (request.failure ?? []);
    const responses = branch.map((op) => this.#operate(op, memberId, change));
    return { header: this.header(memberId), succeeded, responses };
  }

  #operate(op: RequestOp, memberId: string, change: Change): ResponseOp {
    if (op.request_range) return { response_range: this.range(op.request_range, memberId) };
    if (op.request_txn) return { response_txn: this.#run(op.request_txn, memberId, change) };
    if (op.request_put) {
      const { key, value, lease } = op.request_put;
      this.#put(key.toString('latin1'), value, lease, change.revision);
      change.changed = true;
    } else if (op.request_delete_range) {
      const { key, range_end } = op.request_delete_range;
      for (const name of this.#keysIn(key, range_end)) {
        this.#delete(name, change.revision);
        change.changed = true;
      }
    }
    return {};
  }

  #holds({ key, target, result, create_revision, mod_revision, lease }: Compare): boolean {
    const row = this.#rows.get(key.toString('latin1'));
    if (target === compareTarget.create) {
      const created = row?.created ?? 0;
      const wanted = create_revision ?? 0;
      return result === compareResult.greater ? created > wanted : created === wanted;
    }
    if (target === compareTarget.mod) return (row?.modified ?? 0) === mod_revision;
    return row !== undefined && (row.lease ?? '0') === lease;
  }

  #put(key: string, value: Buffer, lease: string | undefined, revision: number): void {
    if (lease !== undefined && !this.#leases.has(lease)) {
      throw new EtcdFailure(grpcStatus.notFound, 'etcdserver: requested lease not found');
    }
    const before = this.#rows.get(key);
    if (before?.lease !== undefined) this.#leases.get(before.lease)?.delete(key);
    if (lease !== undefined) this.#leases.get(lease)?.add(key);
    const created = before?.created ?? revision;
    const bytes = storedBytes(key, value.length);
    const row = { value: Buffer.from(value), created, modified: revision, lease, bytes };
    if (before !== undefined) this.#garbage.push({ revision, bytes: before.bytes });
    this.#grow(bytes);
    if (before === undefined) this.#keys.splice(lowerBound(this.#keys, key), 0, key);
    this.#rows.set(key, row);
    this.events.push({ revision, key, type: 'put', kv: keyValue(key, row, false) });
  }

  #delete(key: string, revision: number): void {
    const row = this.#rows.get(key);
    if (row === undefined) return;
    if (row.lease !== undefined) this.#leases.get(row.lease)?.delete(key);
    this.#rows.delete(key);
    this.#keys.splice(lowerBound(this.#keys, key), 1);
    const bytes = storedBytes(key, 0);
    this.#garbage.push({ revision, bytes: row.bytes + bytes });
    this.#grow(bytes);
    const gone = { value: nothing, created: 0, modified: revision, lease: undefined, bytes };
    this.events.push({ revision, key, type: 'delete', kv: keyValue(key, gone, true) });
  }

  #keysIn(key: Buffer, end: Buffer | undefined): string[] {
    const first = key.toString('latin1');
    if (end === undefined) return this.#rows.has(first) ? [first] : [];
    const last = end.toString('latin1');
    return this.#keys.slice(lowerBound(this.#keys, first), lowerBound(this.#keys, last));
  }
}

interface Change {
  readonly revision: number;
  changed: boolean;
}

function keyValue(key: string, row: Row, keysOnly: boolean): KeyValue {
  return {
    key: Buffer.from(key, 'latin1'),
    value: keysOnly ? nothing : row.value,
    create_revision: String(row.created),
    mod_revision: String(row.modified),
    lease: row.lease ?? '0',
  };
}

/** etcd refuses a transaction that puts a key twice. */
function checkPuts(ops: readonly RequestOp[], seen: Set<string> = new Set()): void {
  for (const { request_put, request_txn } of ops) {
    if (request_txn) checkPuts(request_txn.success, seen);
    if (request_put === undefined) continue;
    const key = request_put.key.toString('latin1');
    if (seen.has(key)) throw new EtcdFailure(3, 'etcdserver: duplicate key given in txn request');
    seen.add(key);
  }
}
