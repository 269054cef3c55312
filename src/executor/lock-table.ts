import { type Bytestring, isInside } from '../base/index.ts';

/** Who holds locks: a call (mode `transaction`) or a batch. Younger owners have greater numbers. */
export type Owner = number;

/** Shared locks of one key go together; an exclusive one goes with none. */
export type LockMode = 'shared' | 'exclusive';

/** What is locked: one key, or all keys with `start <= key < end` (`end` empty: no bound). */
export type LockTarget =
  | { readonly key: Bytestring }
  | { readonly start: Bytestring; readonly end: Bytestring };

/** A request that was granted, or waits. */
export interface LockRequest {
  readonly owner: Owner;
  readonly target: LockTarget;
  /** Ranges are shared only. */
  readonly mode: LockMode;
  /** Order of arrival. */
  readonly arrival: number;
  granted: boolean;
}

/**
 * Strict two-phase locking as a state machine: shared and exclusive locks on keys, shared locks on
 * ranges (which keep writers out of the whole interval, so there are no phantoms). First come,
 * first served: a request waits behind earlier ones that it conflicts with, so nobody starves; only
 * an owner that turns its own shared lock into an exclusive one goes ahead of the queue, since the
 * queue waits for it anyway. Owners release all their locks at once.
 */
export class LockTable {
  readonly #keys = new Map<Bytestring, KeyLock>();
  readonly #ranges: LockRequest[] = [];
  readonly #waitingRanges: LockRequest[] = [];
  readonly #owners = new Map<Owner, OwnerLocks>();
  #arrivals = 0;

  /** Owners that hold or want something. */
  get size(): number {
    return this.#owners.size;
  }

  /** Asks for a lock. When it is not granted at once, a later `release` grants it. */
  request(owner: Owner, target: LockTarget, mode: LockMode): LockRequest {
    const request: LockRequest = {
      owner,
      target,
      mode,
      arrival: this.#arrivals++,
      granted: false,
    };
    const locks = this.#locksOf(owner);
    if ('key' in target) {
      const lock = this.#keyLock(target.key);
      const held = lock.holders.get(owner);
      if (held === 'exclusive' || held === mode) {
        request.granted = true;
        return request;
      }
      if (held === 'shared') lock.queue.unshift(request);
      else lock.queue.push(request);
      locks.keys.add(target.key);
    } else {
      this.#waitingRanges.push(request);
    }
    locks.waiting.add(request);
    if (this.#blockers(request).next().done === true) this.#grant(request);
    return request;
  }

  /**
   * A circle in which everybody waits for the next and `owner` is part of; `undefined` when there
   * is none. The youngest must be released, and must not come back before the oldest was released:
   * else it may take what the others wait for again, and so for ever. Since everybody waits for
   * somebody older then, all come to their end.
   */
  deadlock(owner: Owner): { readonly youngest: Owner; readonly oldest: Owner } | undefined {
    const visited = new Set<Owner>();
    const path: Owner[] = [];
    const walk = (at: Owner): boolean => {
      path.push(at);
      for (const request of this.#owners.get(at)?.waiting ?? []) {
        for (const next of this.#blockers(request)) {
          if (next === owner) return true;
          if (visited.has(next)) continue;
          visited.add(next);
          if (walk(next)) return true;
        }
      }
      path.pop();
      return false;
    };
    const locks = this.#owners.get(owner);
    if (locks === undefined || locks.waiting.size === 0) return undefined;
    if (!walk(owner)) return undefined;
    return { youngest: Math.max(...path), oldest: Math.min(...path) };
  }

  /** Frees all locks and requests of an owner. @returns the requests granted by that. */
  release(owner: Owner): LockRequest[] {
    const locks = this.#owners.get(owner);
    if (locks === undefined) return [];
    this.#owners.delete(owner);
    const ownRanges = [...this.#ranges, ...this.#waitingRanges].filter(
      (range) => range.owner === owner,
    );
    removeAll(this.#ranges, (range) => range.owner === owner);
    removeAll(this.#waitingRanges, (range) => range.owner === owner);
    // Only those whom this owner kept waiting: looking at all who wait would cost a busy table more
    // than the calls themselves.
    const candidates: LockRequest[] = [];
    for (const key of locks.keys) {
      const lock = this.#keys.get(key);
      if (lock === undefined) continue;
      lock.holders.delete(owner);
      removeAll(lock.queue, (request) => request.owner === owner);
      if (lock.holders.size === 0 && lock.queue.length === 0) this.#keys.delete(key);
      else candidates.push(...lock.queue);
    }
    if (ownRanges.length > 0) {
      for (const [key, { queue }] of this.#keys) {
        if (queue.length > 0 && ownRanges.some((range) => covers(range, key))) {
          candidates.push(...queue);
        }
      }
    }
    for (const range of this.#waitingRanges) {
      for (const key of locks.keys) {
        if (!covers(range, key)) continue;
        candidates.push(range);
        break;
      }
    }
    if (candidates.length > 1) candidates.sort((left, right) => left.arrival - right.arrival);
    const granted: LockRequest[] = [];
    for (const request of candidates) {
      if (request.granted || this.#blockers(request).next().done !== true) continue;
      this.#grant(request);
      granted.push(request);
    }
    return granted;
  }

  #grant(request: LockRequest): void {
    request.granted = true;
    const locks = this.#locksOf(request.owner);
    locks.waiting.delete(request);
    if ('key' in request.target) {
      const lock = this.#keyLock(request.target.key);
      removeAll(lock.queue, (other) => other === request);
      if (lock.holders.get(request.owner) !== 'exclusive') {
        lock.holders.set(request.owner, request.mode);
      }
    } else {
      removeAll(this.#waitingRanges, (other) => other === request);
      this.#ranges.push(request);
    }
  }

  /**
   * Owners that a waiting request waits for: holders it conflicts with, and the earlier waiters it
   * conflicts with, back to the nearest exclusive one (which waits for all before it).
   */
  *#blockers(request: LockRequest): Generator<Owner> {
    if ('key' in request.target) yield* this.#keyBlockers(request, request.target.key);
    else yield* this.#rangeBlockers(request, request.target);
  }

  *#keyBlockers(request: LockRequest, key: Bytestring): Generator<Owner> {
    const lock = this.#keyLock(key);
    const exclusive = request.mode === 'exclusive';
    for (const [holder, mode] of lock.holders) {
      if (holder !== request.owner && (exclusive || mode === 'exclusive')) yield holder;
    }
    const upgrade = lock.holders.has(request.owner);
    if (!upgrade) {
      for (let at = lock.queue.indexOf(request) - 1; at >= 0; at--) {
        const earlier = lock.queue[at] as LockRequest;
        if (earlier.owner === request.owner) continue;
        if (exclusive || earlier.mode === 'exclusive') yield earlier.owner;
        if (earlier.mode === 'exclusive') break;
      }
    }
    if (!exclusive) return;
    for (const range of this.#ranges) {
      if (range.owner !== request.owner && covers(range, key)) yield range.owner;
    }
    if (upgrade) return;
    for (const range of this.#waitingRanges) {
      if (range.arrival > request.arrival) break;
      if (range.owner !== request.owner && covers(range, key)) yield range.owner;
    }
  }

  *#rangeBlockers(
    request: LockRequest,
    { start, end }: { start: Bytestring; end: Bytestring },
  ): Generator<Owner> {
    for (const [key, lock] of this.#keys) {
      if (key < start || (end !== '' && key >= end)) continue;
      for (const [holder, mode] of lock.holders) {
        if (holder !== request.owner && mode === 'exclusive') yield holder;
      }
      for (const waiter of lock.queue) {
        const ahead = waiter.arrival < request.arrival || lock.holders.has(waiter.owner);
        if (waiter.owner !== request.owner && waiter.mode === 'exclusive' && ahead) {
          yield waiter.owner;
        }
      }
    }
  }

  #keyLock(key: Bytestring): KeyLock {
    let lock = this.#keys.get(key);
    if (lock === undefined) {
      lock = { holders: new Map(), queue: [] };
      this.#keys.set(key, lock);
    }
    return lock;
  }

  #locksOf(owner: Owner): OwnerLocks {
    let locks = this.#owners.get(owner);
    if (locks === undefined) {
      locks = { keys: new Set(), waiting: new Set() };
      this.#owners.set(owner, locks);
    }
    return locks;
  }
}

interface KeyLock {
  readonly holders: Map<Owner, LockMode>;
  /** Waiting requests: upgrades first, then by arrival. */
  readonly queue: LockRequest[];
}

interface OwnerLocks {
  /** Keys held or wanted. */
  readonly keys: Set<Bytestring>;
  readonly waiting: Set<LockRequest>;
}

function covers(range: LockRequest, key: Bytestring): boolean {
  const { start, end } = range.target as { start: Bytestring; end: Bytestring };
  return isInside(key, start, end);
}

function removeAll<T>(list: T[], matches: (item: T) => boolean): void {
  let kept = 0;
  for (const item of list) if (!matches(item)) list[kept++] = item;
  list.length = kept;
}
