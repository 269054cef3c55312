import type { CallName, Calls, RequestOp, TxnRequest } from '../src/log/etcd/etcd-api.ts';
import type { Chance } from './random.ts';

/*
 * How etcd keeps and counts its space, as of 3.4 and 3.5; `test/etcd/model.test.ts` compares it with a
 * real one.
 */

const pageBytes = 4096;
/** What an empty file has in use, and what it is large. */
const emptyBytes = 4 * pageBytes;
/** What a commit copies before it can give back what it read: inner pages, and neighbours. */
const copiedBytes = 2 * pageBytes;
const copiedNeighbours = 3;
/** A member commits to its file so often, if there is anything to commit. */
const commitUs = 100_000;
/** Beside key and value, in a page. */
const revisionBytes = 80;
/** Pages of small values are not quite full. */
const fillRatio = 1.15;
/** What etcd counts for a key's metadata and for a lease when it looks at the quota. */
const keyCost = 256;
const leaseCost = 64;

/** What one revision of a key takes in a member's file. */
export function storedBytes(key: string, valueBytes: number): number {
  const bytes = key.length + valueBytes + revisionBytes;
  return bytes > pageBytes
    ? Math.ceil(bytes / pageBytes) * pageBytes
    : Math.ceil(bytes * fillRatio);
}

/** What a transaction adds, and the largest piece of it. */
interface Growth {
  readonly bytes: number;
  readonly largestBytes: number;
}

/** One member's file: it grows in pages, which are used again when they are free. */
class MemberFile {
  /** The tenth of a second differs from member to member. */
  readonly #phaseUs: number;
  #usedBytes = emptyBytes;
  #fileBytes = emptyBytes + pageBytes;
  /** Given back since the last commit: free only after it. */
  #givenBackBytes = 0;
  #dirtySinceUs: number | undefined;
  /** Compactions that this member has not done yet, oldest first. */
  readonly #compactions: { readonly atUs: number; readonly bytes: number }[] = [];
  /** As of the last commit. */
  #seen = { fileBytes: emptyBytes + pageBytes, usedBytes: emptyBytes };

  constructor(phaseUs: number) {
    this.#phaseUs = phaseUs;
  }

  sizes(nowUs: number): { readonly fileBytes: number; readonly usedBytes: number } {
    this.#settle(nowUs);
    return this.#seen;
  }

  grow(nowUs: number, { bytes, largestBytes }: Growth): void {
    this.#settle(nowUs);
    this.#usedBytes += bytes;
    this.#dirtySinceUs ??= nowUs;
    const copied = copiedBytes + copiedNeighbours * largestBytes;
    const needed = this.#usedBytes + this.#givenBackBytes + copied;
    this.#fileBytes = Math.max(this.#fileBytes, Math.ceil(needed / pageBytes) * pageBytes);
  }

  compact(atUs: number, bytes: number): void {
    this.#compactions.push({ atUs, bytes });
  }

  /** Makes the file anew. */
  defragment(nowUs: number): void {
    this.#settle(nowUs);
    this.#fileBytes = Math.ceil(this.#usedBytes / pageBytes) * pageBytes + pageBytes;
    this.#givenBackBytes = 0;
    this.#dirtySinceUs = undefined;
    this.#seen = { fileBytes: this.#fileBytes, usedBytes: this.#usedBytes };
  }

  /** Does what is due by now. */
  #settle(nowUs: number): void {
    for (;;) {
      const compaction = this.#compactions[0];
      const commitAtUs = this.#commitAtUs();
      if (commitAtUs <= nowUs && commitAtUs <= (compaction?.atUs ?? commitAtUs)) this.#commit();
      else if (compaction !== undefined && compaction.atUs <= nowUs) {
        this.#compactions.shift();
        this.#usedBytes -= compaction.bytes;
        this.#givenBackBytes += compaction.bytes;
        this.#dirtySinceUs ??= compaction.atUs;
      } else return;
    }
  }

  #commitAtUs(): number {
    if (this.#dirtySinceUs === undefined) return Number.POSITIVE_INFINITY;
    const slot = Math.floor((this.#dirtySinceUs + this.#phaseUs) / commitUs) + 1;
    return slot * commitUs - this.#phaseUs;
  }

  #commit(): void {
    // What is given back by a commit counts as free from the next one on.
    const usedBytes = this.#usedBytes + this.#givenBackBytes;
    this.#seen = { fileBytes: this.#fileBytes, usedBytes };
    this.#givenBackBytes = 0;
    this.#dirtySinceUs = undefined;
  }
}

/**
 * The space of one cluster: every member's file, the quota, and the alarm, which once raised by any
 * member stops all of them from putting anything until it is lifted.
 */
export class EtcdSpace {
  /** Of every member's file. */
  quotaBytes = Number.POSITIVE_INFINITY;
  /**
   * The quota does not see what nested transactions put, neither before nor after the alarm: so it is in
   * etcd before July 2026.
   */
  nestedIsFree = true;
  readonly #chance: Chance;
  readonly #files: readonly MemberFile[];
  /** Members that have raised it. */
  readonly #alarms = new Set<number>();

  /** @param chance - numbers of its own, so that nothing else depends on them. */
  constructor(members: number, chance: Chance) {
    this.#chance = chance;
    this.#files = Array.from(
      { length: members },
      (_, at) => new MemberFile((at * commitUs) / members),
    );
  }

  /** Members whose alarm is raised. */
  get alarms(): readonly number[] {
    return [...this.#alarms];
  }

  /** True when no other has raised it before. */
  raise(member: number): boolean {
    const isFirst = this.#alarms.size === 0;
    this.#alarms.add(member);
    return isFirst;
  }

  lift(member: number): void {
    this.#alarms.delete(member);
  }

  /** A member's file, as of its last commit. */
  sizes(member: number, nowUs: number): { readonly fileBytes: number; readonly usedBytes: number } {
    return (this.#files[member] as MemberFile).sizes(nowUs);
  }

  /** Whether a member's file has room for what costs so much; what costs nothing is not looked at. */
  hasRoom(member: number, cost: number, nowUs: number): boolean {
    return cost === 0 || this.sizes(member, nowUs).fileBytes + cost < this.quotaBytes;
  }

  grown(nowUs: number, growth: Growth): void {
    for (const file of this.#files) file.grow(nowUs, growth);
  }

  /** Bytes are given back: by one member at once, by the others in their own time. */
  compacted(nowUs: number, bytes: number, member: number): void {
    for (const [at, file] of this.#files.entries()) {
      file.compact(nowUs + (at === member ? 0 : this.#chance.between(0, 150_000)), bytes);
    }
  }

  defragmented(member: number, nowUs: number): void {
    (this.#files[member] as MemberFile).defragment(nowUs);
  }

  /** What the quota counts for a request; 0: it puts nothing, and is never refused. */
  costOf<Name extends CallName>(name: Name, request: Calls[Name]['request']): number {
    if (name === 'leaseGrant') return leaseCost;
    if (name === 'put') return this.#costOfOps([{ request_put: request as Put }]);
    return name === 'txn' ? this.#costOfTxn(request as TxnRequest) : 0;
  }

  /** Whichever way its conditions turn out. */
  #costOfTxn({ success, failure = [] }: TxnRequest): number {
    return Math.max(this.#costOfOps(success), this.#costOfOps(failure));
  }

  #costOfOps(ops: readonly RequestOp[]): number {
    let cost = 0;
    for (const { request_put: put, request_txn: txn } of ops) {
      if (put) cost += keyCost + put.key.length + put.value.length;
      if (txn && !this.nestedIsFree) cost += this.#costOfTxn(txn);
    }
    return cost;
  }
}

type Put = Calls['put']['request'];
