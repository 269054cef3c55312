import type { DaybookError } from '../base/index.ts';
import type { Page } from './page.ts';

/** Where a follower's system stands. */
export interface SinkPosition {
  readonly position: number;
  readonly cursor: string;
}

/** What happened. */
export type FollowerEvent =
  /** The system is open; `at` undefined: it was never filled. */
  | { readonly type: 'opened'; readonly at: SinkPosition | undefined }
  | { readonly type: 'openFailed'; readonly error: DaybookError }
  | { readonly type: 'pulled'; readonly page: Page }
  | { readonly type: 'pullFailed'; readonly error: DaybookError }
  /** Rows and cursor are in the system. */
  | { readonly type: 'applied'; readonly position: number }
  | { readonly type: 'applyFailed'; readonly error: DaybookError }
  | { readonly type: 'filled'; readonly at: SinkPosition }
  | { readonly type: 'fillFailed'; readonly error: DaybookError }
  /** The ledger knows that everything before `position` is applied. */
  | { readonly type: 'confirmed'; readonly position: number }
  | { readonly type: 'confirmFailed' }
  /** Time passed. */
  | { readonly type: 'tick' }
  | { readonly type: 'stop' };

/** What to do. Every effect but `wake`, `stopped` is answered by one event, late or never. */
export type FollowerEffect =
  | { readonly type: 'open' }
  | { readonly type: 'pull'; readonly at: SinkPosition }
  | { readonly type: 'apply'; readonly page: Page }
  | { readonly type: 'fill'; readonly reason: string }
  | { readonly type: 'confirm'; readonly position: number }
  /** Send a `tick` at this time. */
  | { readonly type: 'wake'; readonly atMs: number }
  | { readonly type: 'stopped'; readonly error: DaybookError | undefined };

/** Pauses after failures. */
export interface FollowerTiming {
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

const timingDefault: FollowerTiming = { retryMinMs: 100, retryMaxMs: 10_000 };

/**
 * One follower's protocol, without I/O: opens the system, fills it if it must, then pulls and
 * applies page by page, one being pulled while another is applied.
 *
 * - A page is applied only if it begins where the system stands: lost, repeated and reordered pages
 *   change nothing.
 * - After any doubt about the system (a failed apply may have taken effect) it is opened again, and
 *   its own cursor decides.
 * - What is applied is told until the ledger confirms it.
 */
export class FollowerCore {
  readonly #timing: FollowerTiming;
  #state: 'closed' | 'opening' | 'filling' | 'running' | 'stopped' = 'closed';
  /** Where the system stands. */
  #at: SinkPosition | undefined;
  /** Where the next page begins: behind the one that is being applied or waits. */
  #next: SinkPosition | undefined;
  #pulling = false;
  #applying: Page | undefined;
  #waiting: Page | undefined;
  #confirmed = -1;
  #confirming = false;
  #retryMs: number;
  /** Nothing of the kind before this time. */
  #openAtMs: number | undefined;
  #pullAtMs: number | undefined;
  #confirmAtMs: number | undefined;

  constructor(timing: Partial<FollowerTiming> = {}) {
    this.#timing = { ...timingDefault, ...timing };
    this.#retryMs = this.#timing.retryMinMs;
  }

  /** Everything before is in the follower's system; `undefined` before the first fill. */
  get position(): number | undefined {
    return this.#at?.position;
  }

  /** One step: what happened, at which monotonic time. Begin with a `tick`. */
  step(event: FollowerEvent, nowMs: number): FollowerEffect[] {
    if (this.#state === 'stopped') return [];
    if (event.type === 'stop') return this.#stop(undefined);
    const effects: FollowerEffect[] = [];
    const error = this.#take(event, nowMs, effects);
    if (error !== undefined) return this.#stop(error);
    this.#goOn(nowMs, effects);
    return effects;
  }

  /** @returns an error that ends everything. */
  #take(event: FollowerEvent, nowMs: number, effects: FollowerEffect[]): DaybookError | undefined {
    switch (event.type) {
      case 'opened':
        if (this.#state !== 'opening') return undefined;
        this.#begin(event.at);
        if (event.at === undefined) this.#fill('first', effects);
        return undefined;
      case 'openFailed':
        return this.#state === 'opening' ? this.#fail(event.error, nowMs) : undefined;
      case 'pulled':
        this.#pulling = false;
        this.#takePage(event.page);
        return undefined;
      case 'pullFailed':
        this.#pulling = false;
        return this.#pullFailed(event.error, nowMs, effects);
      case 'applied':
        if (this.#applying?.next !== event.position) return undefined;
        this.#at = { position: this.#applying.next, cursor: this.#applying.cursor };
        this.#applying = undefined;
        this.#retryMs = this.#timing.retryMinMs;
        return undefined;
      case 'applyFailed':
        return this.#applying === undefined ? undefined : this.#fail(event.error, nowMs);
      case 'filled':
        if (this.#state !== 'filling') return undefined;
        this.#begin(event.at);
        return undefined;
      case 'fillFailed':
        return this.#state === 'filling' ? this.#fail(event.error, nowMs) : undefined;
      case 'confirmed':
        this.#confirming = false;
        this.#confirmed = event.position;
        return undefined;
      case 'confirmFailed':
        this.#confirming = false;
        this.#confirmAtMs = nowMs + this.#timing.retryMinMs * 5;
        effects.push({ type: 'wake', atMs: this.#confirmAtMs });
        return undefined;
      case 'tick':
        // A timer may be early.
        for (const atMs of [this.#pullAtMs, this.#confirmAtMs]) {
          if (atMs !== undefined && atMs > nowMs) effects.push({ type: 'wake', atMs });
        }
        return undefined;
      case 'stop':
        return undefined;
    }
  }

  #goOn(nowMs: number, effects: FollowerEffect[]): void {
    if (this.#state === 'closed') {
      if ((this.#openAtMs ?? 0) > nowMs) effects.push({ type: 'wake', atMs: this.#openAtMs ?? 0 });
      else {
        this.#state = 'opening';
        effects.push({ type: 'open' });
      }
      return;
    }
    if (this.#state !== 'running' || this.#at === undefined || this.#next === undefined) return;
    if (this.#applying === undefined && this.#waiting !== undefined) {
      this.#applying = this.#waiting;
      this.#waiting = undefined;
      effects.push({ type: 'apply', page: this.#applying });
    }
    if (!this.#pulling && this.#waiting === undefined && (this.#pullAtMs ?? 0) <= nowMs) {
      this.#pulling = true;
      effects.push({ type: 'pull', at: this.#next });
    }
    const { position } = this.#at;
    if (!this.#confirming && this.#confirmed < position && (this.#confirmAtMs ?? 0) <= nowMs) {
      this.#confirming = true;
      effects.push({ type: 'confirm', position });
    }
  }

  #takePage(page: Page): void {
    if (this.#state !== 'running' || this.#waiting !== undefined) return;
    if (page.from !== this.#next?.position || page.next <= page.from) return;
    this.#retryMs = this.#timing.retryMinMs;
    this.#waiting = page;
    this.#next = { position: page.next, cursor: page.cursor };
  }

  #pullFailed(
    error: DaybookError,
    nowMs: number,
    effects: FollowerEffect[],
  ): DaybookError | undefined {
    if (this.#state !== 'running') return undefined;
    if (error.code === 'FOLLOWER_REFILL' || error.code === 'CURSOR_INVALID') {
      // What is still on its way into the system comes first.
      if (this.#applying === undefined && this.#waiting === undefined) {
        this.#fill(String(error.details.reason ?? error.code), effects);
      } else {
        this.#pullAtMs = nowMs + this.#timing.retryMinMs;
        effects.push({ type: 'wake', atMs: this.#pullAtMs });
      }
      return undefined;
    }
    if (!isTransient(error)) return error;
    this.#pullAtMs = nowMs + this.#backOff();
    effects.push({ type: 'wake', atMs: this.#pullAtMs });
    return undefined;
  }

  /** Opens again after a pause: nobody knows what the system holds now. */
  #fail(error: DaybookError, nowMs: number): DaybookError | undefined {
    if (!isTransient(error)) return error;
    this.#state = 'closed';
    this.#applying = undefined;
    this.#waiting = undefined;
    this.#openAtMs = nowMs + this.#backOff();
    return undefined;
  }

  #begin(at: SinkPosition | undefined): void {
    this.#state = 'running';
    this.#at = at;
    this.#next = at;
    this.#confirmed = -1;
    this.#pullAtMs = undefined;
  }

  #fill(reason: string, effects: FollowerEffect[]): void {
    this.#state = 'filling';
    effects.push({ type: 'fill', reason });
  }

  #backOff(): number {
    const pauseMs = this.#retryMs;
    this.#retryMs = Math.min(this.#retryMs * 2, this.#timing.retryMaxMs);
    return pauseMs;
  }

  #stop(error: DaybookError | undefined): FollowerEffect[] {
    this.#state = 'stopped';
    return [{ type: 'stopped', error }];
  }
}

function isTransient({ code, retry }: DaybookError): boolean {
  return retry !== 'never' && code !== 'INTERNAL';
}
