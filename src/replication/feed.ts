import type { FollowerKey } from './encryption.ts';
import type { Page } from './page.ts';
import type { Subscription } from './subscription.ts';

/** What a follower says of itself with every request. */
export interface FollowerIntroduction {
  readonly follower: string;
  readonly run: string;
  readonly subscription: Subscription;
  readonly applied: number | undefined;
  /** Its private keys, the current one first; empty: pages come in the clear. */
  readonly keys: readonly FollowerKey[];
  readonly changesMax: number;
  readonly filling: boolean;
  /** Entities whose changes are parked. */
  readonly parked: number;
}

/** Rows of the state. */
export interface FeedScan {
  readonly page: Page;
  /** Where to go on; `undefined` at the end. */
  readonly resume: string | undefined;
}

/**
 * The ledger as a follower sees it. All methods throw `DaybookError`s: `retry` `same` or an
 * unreachable network means: again later; `FOLLOWER_REFILL` and `CURSOR_INVALID`: fill anew.
 */
export interface Feed {
  /**
   * The page behind a cursor; empty when nothing came for `waitMs`.
   *
   * @param at - position that the cursor stands for: the page must begin there.
   */
  pull(
    introduction: FollowerIntroduction,
    cursor: string,
    at: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<Page>;
  scan(
    introduction: FollowerIntroduction,
    from: number | undefined,
    resume: string | undefined,
    signal?: AbortSignal,
  ): Promise<FeedScan>;
  /** Tells what is applied; answers what the ledger now knows. */
  applied(introduction: FollowerIntroduction, signal?: AbortSignal): Promise<number>;
  close(): Promise<void>;
}
