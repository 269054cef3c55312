import { isDaybookError } from '../../base/index.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/**
 * A lease that is kept alive on the home unit. Keys put with it vanish when this process stops
 * renewing it: when it dies, is paused or is cut off for longer than the lease lasts.
 */
export class Session {
  /** Where the lease lives. */
  readonly unit: Unit;
  readonly lease: string;
  /** Aborts when the lease is, or may be, gone; by this process's own clock. */
  readonly lost: AbortSignal;
  readonly #units: Units;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  #validUntilMs: number;

  private constructor(units: Units, unit: Unit, lease: string, ttlMs: number, sinceMs: number) {
    this.#units = units;
    this.unit = unit;
    this.lease = lease;
    this.lost = this.#lost.signal;
    this.#ttlMs = ttlMs;
    this.#validUntilMs = sinceMs + ttlMs;
    this.#watchDeadline();
    void this.#keepAlive();
  }

  /**
   * @param ttlMs - how long the lease outlives its last renewal; whole seconds, at least the two
   *   that etcd's default election timeout asks for.
   */
  static async open(units: Units, ttlMs: number): Promise<Session> {
    const unit = units.home;
    const sinceMs = units.io.clock.monotonicMs();
    const answer = await unit.client.call('leaseGrant', { TTL: Math.ceil(ttlMs / 1000) });
    return new Session(units, unit, answer.ID, Number(answer.TTL) * 1000, sinceMs);
  }

  /** Gives the lease back: its keys vanish at once. */
  async close(): Promise<void> {
    this.#lost.abort();
    await this.unit.client
      .call('leaseRevoke', { ID: this.lease }, { timeoutMs: this.#ttlMs })
      .catch(() => undefined);
  }

  #watchDeadline(): void {
    if (this.#lost.signal.aborted) return;
    const leftMs = this.#validUntilMs - this.#units.io.clock.monotonicMs();
    if (leftMs <= 0) this.#lost.abort();
    else this.#units.io.timers.after(leftMs, () => this.#watchDeadline());
  }

  async #keepAlive(): Promise<void> {
    const beatMs = this.#ttlMs / 4;
    const { clock } = this.#units.io;
    while (!this.#lost.signal.aborted) {
      await this.unit.client.sleep(beatMs);
      if (this.#lost.signal.aborted) return;
      // A new home unit: what lives on the old one is not seen any more.
      if (this.#units.home !== this.unit) {
        this.#lost.abort();
        return;
      }
      const sentMs = clock.monotonicMs();
      try {
        const seconds = await this.unit.client.keepAlive(this.lease, beatMs);
        if (seconds <= 0) this.#lost.abort();
        else this.#validUntilMs = sentMs + seconds * 1000;
      } catch (error) {
        if (isDaybookError(error, 'CLOSED')) this.#lost.abort();
      }
    }
  }
}
