import { type Bytestring, isInside } from '../base/index.ts';
import { added, none } from './few.ts';

/** Shared locks of one key go together; an exclusive one goes with none. */
export type LockMode = 'shared' | 'exclusive';

/** Who holds locks of one table: a call (mode `transaction`) or a batch. */
export class LockOwner<Of> {
  /** Younger owners have greater numbers. */
  readonly number: number;
  /** What it stands for. */
  readonly of: Of;
  /** Locks that it has or wants, each once. */
  keys: readonly KeyLock<Of>[] = none;
  /** Ranges that it has or wants. */
  ranges: readonly RangeRequest<Of>[] = none;
  /** What it wants and does not have. */
  waiting: readonly LockRequest<Of>[] = none;
  /** The last search for a circle that came by. */
  search = 0;

  constructor(number: number, of: Of) {
    this.number = number;
    this.of = of;
  }
}

/** A request for the lock of one key. */
export interface KeyRequest<Of> {
  readonly owner: LockOwner<Of>;
  readonly lock: KeyLock<Of>;
  mode: LockMode;
  /** Order of arrival. */
  readonly arrival: number;
}

/** A request for a shared lock of all keys with `start <= key < end` (`end` empty: no bound). */
export interface RangeRequest<Of> {
  readonly owner: LockOwner<Of>;
  readonly lock: undefined;
  readonly start: Bytestring;
  readonly end: Bytestring;
  /** Order of arrival. */
  readonly arrival: number;
  /** A key at which it had to wait when somebody last looked. */
  blockedAt: KeyLock<Of> | undefined;
}

/** A request that waits, or waited. */
export type LockRequest<Of> = KeyRequest<Of> | RangeRequest<Of>;

/** The lock of one key. */
interface KeyLock<Of> {
  readonly key: Bytestring;
  /** Who has it; `undefined`: nobody. */
  holder: LockOwner<Of> | undefined;
  /** Whether the holder keeps all others out. */
  isExclusive: boolean;
  /** Who shares it with the holder. */
  sharers: Set<LockOwner<Of>> | undefined;
  /** Waiting requests, one of an owner: upgrades first, then by arrival. */
  readonly queue: KeyRequest<Of>[];
}

/** Idle locks are cleared away when there are so many, and more of them than of others. */
const idleLocksMin = 4_096;

/**
 * Strict two-phase locking as a state machine: shared and exclusive locks on keys, shared locks on
 * ranges (which keep writers out of the whole interval, so there are no phantoms). First come,
 * first served: a request waits behind earlier ones that it conflicts with, so nobody starves; only
 * an owner that turns its own shared lock into an exclusive one goes ahead of the queue, since the
 * queue waits for it anyway. Owners release all their locks at once.
 *
 * A lock that is granted at once, as most are, makes no object; and a key keeps its place for a while
 * when nobody has it.
 */
export class LockTable<Of> {
  readonly #locks = new Map<Bytestring, KeyLock<Of>>();
  /** How many of them nobody has or wants. */
  #idle = 0;
  readonly #ranges: RangeRequest<Of>[] = [];
  readonly #waitingRanges: RangeRequest<Of>[] = [];
  #arrivals = 0;
  #searches = 0;

  /** Keys and ranges that somebody has or wants. */
  get size(): number {
    return this.#locks.size - this.#idle + this.#ranges.length + this.#waitingRanges.length;
  }

  /** Keys whose place is kept, in use or not. */
  get kept(): number {
    return this.#locks.size;
  }

  /**
   * Asks for the lock of a key.
   *
   * @returns `undefined`: the owner has it. Else a later `release` grants it; the same request as
   *   before, when the owner waits for this lock already.
   */
  requestKey(owner: LockOwner<Of>, key: Bytestring, mode: LockMode): KeyRequest<Of> | undefined {
    const lock = this.#lockOf(key);
    const isHeld = holds(lock, owner);
    if (isHeld && (lock.isExclusive || mode === 'shared')) return undefined;
    const waiting = owner.waiting.find((request) => request.lock === lock);
    if (waiting?.lock !== undefined) {
      // It stands in the line already; who asks for more gets more when it is its turn.
      if (mode === 'exclusive') waiting.mode = mode;
      return waiting;
    }
    if (!isHeld) owner.keys = added(owner.keys, lock);
    if (this.#isFree(lock, owner, mode)) {
      take(lock, owner, mode);
      return undefined;
    }
    const request = { owner, lock, mode, arrival: this.#arrivals++ };
    if (isHeld) lock.queue.unshift(request);
    else lock.queue.push(request);
    if (this.#mayGo(request)) {
      remove(lock.queue, request);
      take(lock, owner, mode);
      return undefined;
    }
    owner.waiting = added(owner.waiting, request);
    return request;
  }

  /** {@link LockTable.requestKey} for a range. */
  requestRange(
    owner: LockOwner<Of>,
    start: Bytestring,
    end: Bytestring,
  ): RangeRequest<Of> | undefined {
    const arrival = this.#arrivals++;
    const request = { owner, lock: undefined, start, end, arrival, blockedAt: undefined };
    owner.ranges = added(owner.ranges, request);
    if (this.#mayGo(request)) {
      this.#ranges.push(request);
      return undefined;
    }
    this.#waitingRanges.push(request);
    owner.waiting = added(owner.waiting, request);
    return request;
  }

  /**
   * A circle in which everybody waits for the next and `owner` is part of; `undefined` when there
   * is none. The youngest must be released, and must not come back before the oldest was released:
   * else it may take what the others wait for again, and so for ever. Since everybody waits for
   * somebody older then, all come to their end.
   */
  deadlock(
    owner: LockOwner<Of>,
  ): { readonly youngest: LockOwner<Of>; readonly oldest: LockOwner<Of> } | undefined {
    if (owner.waiting.length === 0 || !this.#isInTheWay(owner)) return undefined;
    const search = ++this.#searches;
    // No recursion: the line before a key may be as long as there are transactions.
    const path = [{ owner, blockers: this.#blockersOf(owner) }];
    for (let end = path.at(-1); end !== undefined; end = path.at(-1)) {
      const next = end.blockers.pop();
      if (next === undefined) {
        path.pop();
      } else if (next === owner) {
        const circle = path.map((one) => one.owner);
        return { youngest: circle.reduce(younger), oldest: circle.reduce(older) };
      } else if (next.search !== search) {
        next.search = search;
        path.push({ owner: next, blockers: this.#blockersOf(next) });
      }
    }
    return undefined;
  }

  /** Frees all locks and requests of an owner. @returns the requests granted by that. */
  release(owner: LockOwner<Of>): readonly LockRequest<Of>[] {
    const { keys, ranges, waiting } = owner;
    owner.keys = none;
    owner.ranges = none;
    owner.waiting = none;
    for (const lock of keys) leave(lock, owner);
    for (const range of ranges) remove(this.#ranges, range);
    for (const request of waiting) {
      if (request.lock === undefined) remove(this.#waitingRanges, request);
      else remove(request.lock.queue, request);
    }
    // Only those whom this owner kept waiting: looking at all who wait would cost a busy table more
    // than the calls themselves.
    const granted: LockRequest<Of>[] = [];
    for (const lock of keys) {
      if (lock.queue.length > 0) this.#grantKey(lock, granted);
      else if (lock.holder === undefined) this.#idle++;
    }
    if (ranges.length > 0) {
      for (const lock of this.#locks.values()) {
        if (lock.queue.length === 0) continue;
        if (ranges.some((range) => covers(range, lock))) this.#grantKey(lock, granted);
      }
    }
    if (this.#waitingRanges.length > 0) this.#grantRanges(keys, granted);
    if (this.#idle > idleLocksMin && this.#idle * 2 > this.#locks.size) this.#clearIdle();
    return granted.length > 1 ? granted.sort(byArrival) : granted;
  }

  /** Grants what may go of those who wait for a key. */
  #grantKey(lock: KeyLock<Of>, granted: LockRequest<Of>[]): void {
    const { queue } = lock;
    for (let at = 0; at < queue.length; ) {
      const request = queue[at] as KeyRequest<Of>;
      const { owner, mode } = request;
      if (this.#mayGo(request)) {
        queue.splice(at, 1);
        take(lock, owner, mode);
        noLongerWaiting(request);
        granted.push(request);
      } else {
        at++;
      }
      // Whether it goes or not: all that stand behind it wait for it.
      if (mode === 'exclusive') return;
    }
  }

  /** Grants what may go of the ranges that wait for one of these keys. */
  #grantRanges(keys: readonly KeyLock<Of>[], granted: LockRequest<Of>[]): void {
    for (const range of [...this.#waitingRanges]) {
      if (!keys.some((lock) => covers(range, lock)) || !this.#mayGo(range)) continue;
      remove(this.#waitingRanges, range);
      this.#ranges.push(range);
      noLongerWaiting(range);
      granted.push(range);
    }
  }

  /** Whether the lock can be had at once for the simple reason that nobody is near. */
  #isFree(lock: KeyLock<Of>, owner: LockOwner<Of>, mode: LockMode): boolean {
    const { holder, sharers, queue } = lock;
    if (holder === owner ? (sharers?.size ?? 0) > 0 : holder !== undefined || queue.length > 0) {
      return false;
    }
    return mode === 'shared' || this.#ranges.length + this.#waitingRanges.length === 0;
  }

  #mayGo(request: LockRequest<Of>): boolean {
    if (request.lock !== undefined) return !this.#someBlocker(request, anybody);
    // Mostly it has to wait where it had to before; to look at all locks takes long.
    const { blockedAt } = request;
    if (blockedAt !== undefined && someBlockerInside(request, blockedAt, anybody)) return false;
    request.blockedAt = undefined;
    this.#locks.forEach((lock) => {
      if (request.blockedAt !== undefined) return;
      if (someBlockerInside(request, lock, anybody)) request.blockedAt = lock;
    });
    return request.blockedAt === undefined;
  }

  /** Whether anybody may wait for the owner: others that stand behind it, or want what it has. */
  #isInTheWay(owner: LockOwner<Of>): boolean {
    if (owner.ranges.length > 0 || this.#waitingRanges.length > 0) return true;
    for (const lock of owner.keys) {
      const last = lock.queue.at(-1);
      if (last === undefined || (last.owner === owner && lock.queue.length === 1)) continue;
      if (last.owner !== owner || holds(lock, owner)) return true;
    }
    return false;
  }

  /** Owners that an owner waits for, the first one last. */
  #blockersOf(owner: LockOwner<Of>): LockOwner<Of>[] {
    const found: LockOwner<Of>[] = [];
    for (const request of owner.waiting) {
      this.#someBlocker(request, (blocker) => {
        found.push(blocker);
        return false;
      });
    }
    return found.reverse();
  }

  /**
   * Whether one of those owners matches that a waiting request waits for: holders it conflicts with,
   * and the earlier waiters it conflicts with, back to the nearest exclusive one (which waits for
   * all before it).
   */
  #someBlocker(request: LockRequest<Of>, matches: (owner: LockOwner<Of>) => boolean): boolean {
    return request.lock === undefined
      ? this.#someRangeBlocker(request, matches)
      : this.#someKeyBlocker(request, request.lock, matches);
  }

  #someKeyBlocker(
    request: KeyRequest<Of>,
    lock: KeyLock<Of>,
    matches: (owner: LockOwner<Of>) => boolean,
  ): boolean {
    const { owner } = request;
    const { holder, sharers, queue } = lock;
    const isExclusive = request.mode === 'exclusive';
    if (isExclusive || lock.isExclusive) {
      if (holder !== undefined && holder !== owner && matches(holder)) return true;
      for (const sharer of sharers ?? none) if (sharer !== owner && matches(sharer)) return true;
    }
    const isUpgrade = holds(lock, owner);
    if (!isUpgrade) {
      for (let at = queue.indexOf(request) - 1; at >= 0; at--) {
        const earlier = queue[at] as KeyRequest<Of>;
        const isWall = earlier.mode === 'exclusive';
        if ((isExclusive || isWall) && matches(earlier.owner)) return true;
        if (isWall) break;
      }
    }
    if (!isExclusive) return false;
    for (const range of this.#ranges) {
      if (range.owner !== owner && covers(range, lock) && matches(range.owner)) return true;
    }
    if (isUpgrade) return false;
    for (const range of this.#waitingRanges) {
      if (range.arrival > request.arrival) break;
      if (range.owner !== owner && covers(range, lock) && matches(range.owner)) return true;
    }
    return false;
  }

  #someRangeBlocker(range: RangeRequest<Of>, matches: (owner: LockOwner<Of>) => boolean): boolean {
    let found = false;
    // An iterator would make an object for every lock there is.
    this.#locks.forEach((lock) => {
      if (!found) found = someBlockerInside(range, lock, matches);
    });
    return found;
  }

  /** The lock of a key that is about to be had or wanted. */
  #lockOf(key: Bytestring): KeyLock<Of> {
    let lock = this.#locks.get(key);
    if (lock === undefined) {
      lock = { key, holder: undefined, isExclusive: false, sharers: undefined, queue: [] };
      this.#locks.set(key, lock);
    } else if (isIdle(lock)) {
      this.#idle--;
    }
    return lock;
  }

  #clearIdle(): void {
    for (const lock of this.#locks.values()) if (isIdle(lock)) this.#locks.delete(lock.key);
    this.#idle = 0;
  }
}

/** Whether one of those owners matches that a range waits for at one key. */
function someBlockerInside<Of>(
  range: RangeRequest<Of>,
  lock: KeyLock<Of>,
  matches: (owner: LockOwner<Of>) => boolean,
): boolean {
  const { holder, isExclusive, queue } = lock;
  if ((!isExclusive && queue.length === 0) || !covers(range, lock)) return false;
  if (isExclusive && holder !== undefined && holder !== range.owner && matches(holder)) return true;
  for (const waiter of queue) {
    if (waiter.mode === 'shared' || waiter.owner === range.owner) continue;
    const isAhead = waiter.arrival < range.arrival || holds(lock, waiter.owner);
    if (isAhead && matches(waiter.owner)) return true;
  }
  return false;
}

function anybody(): boolean {
  return true;
}

function isIdle({ holder, queue }: KeyLock<unknown>): boolean {
  return holder === undefined && queue.length === 0;
}

function holds<Of>({ holder, sharers }: KeyLock<Of>, owner: LockOwner<Of>): boolean {
  return holder === owner || sharers?.has(owner) === true;
}

/** The owner has it, in that mode or a stronger one. */
function take<Of>(lock: KeyLock<Of>, owner: LockOwner<Of>, mode: LockMode): void {
  if (lock.holder === undefined) lock.holder = owner;
  else if (lock.holder !== owner) {
    lock.sharers ??= new Set();
    lock.sharers.add(owner);
  }
  if (mode === 'exclusive') lock.isExclusive = true;
}

/** The owner has it no longer. */
function leave<Of>(lock: KeyLock<Of>, owner: LockOwner<Of>): void {
  const { sharers } = lock;
  if (lock.holder !== owner) {
    sharers?.delete(owner);
    return;
  }
  lock.isExclusive = false;
  lock.holder = undefined;
  if (sharers === undefined) return;
  for (const next of sharers) {
    lock.holder = next;
    sharers.delete(next);
    return;
  }
}

function noLongerWaiting<Of>(request: LockRequest<Of>): void {
  const { owner } = request;
  owner.waiting =
    owner.waiting.length === 1 ? none : owner.waiting.filter((other) => other !== request);
}

function covers<Of>({ start, end }: RangeRequest<Of>, { key }: KeyLock<Of>): boolean {
  return isInside(key, start, end);
}

function byArrival<Of>(left: LockRequest<Of>, right: LockRequest<Of>): number {
  return left.arrival - right.arrival;
}

function younger<Of>(left: LockOwner<Of>, right: LockOwner<Of>): LockOwner<Of> {
  return left.number > right.number ? left : right;
}

function older<Of>(left: LockOwner<Of>, right: LockOwner<Of>): LockOwner<Of> {
  return left.number < right.number ? left : right;
}

function remove<Item>(list: Item[], item: Item): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}
