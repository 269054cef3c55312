import { Pool } from 'undici';
import { DaybookError, type ErrorJson, limits } from '../base/index.ts';
import { type Io, whyUnreachable } from '../io/index.ts';
import { readTokenLifetimeMs, type Signer, signReadToken } from '../model/index.ts';
import { compactMediaType } from './compact-page.ts';
import { decryptPage, encryptedMediaType, publicHalf } from './encryption.ts';
import type { Feed, FeedScan, FollowerIntroduction } from './feed.ts';
import { decodePage, type Page } from './page.ts';
import { type FollowersStatus, mergeStatus } from './status.ts';

/** Settings of {@link httpFeed}. */
export interface HttpFeedOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  /** Any number of nodes of one network, `http://host:port`. */
  readonly gateways: readonly string[];
  readonly channel: string;
  /** Who the follower is; needed where reads are not open to everybody. */
  readonly signer?: Signer;
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

const answerMs = 15_000;

/** The ledger over HTTP; goes on to the next gateway when one fails. */
export function httpFeed(options: HttpFeedOptions): Feed & {
  /** Where all followers stand, merged from all gateways that answer. */
  status(): Promise<FollowersStatus>;
  /**
   * Takes a follower out of the account of every node.
   *
   * @throws {DaybookError} `NOT_FOUND` when none knows it; `PEER_UNREACHABLE` when one does not answer,
   *   which may know it still.
   */
  forget(follower: string): Promise<void>;
} {
  return new HttpFeed(options);
}

class HttpFeed implements Feed {
  readonly #options: HttpFeedOptions;
  readonly #pools: readonly Pool[];
  #current = 0;
  #authorization: { readonly header: string; readonly untilMs: number } | undefined;

  constructor(options: HttpFeedOptions) {
    this.#options = options;
    if (options.gateways.length === 0) {
      throw new DaybookError('INVALID_ARGUMENT', 'a follower needs a gateway', {
        details: { what: 'gateways' },
      });
    }
    this.#pools = options.gateways.map(
      (gateway) =>
        new Pool(new URL(gateway).origin, {
          connections: 4,
          connect: { timeout: 5_000, ...options.tls },
          headersTimeout: limits.followerWaitMsMax + answerMs,
          bodyTimeout: 60_000,
          maxResponseSize: limits.followerAnswerBytesMax,
        }),
    );
  }

  async pull(
    introduction: FollowerIntroduction,
    cursor: string,
    at: number,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<Page> {
    const body = { ...introduced(introduction), cursor, waitMs };
    const text = await this.#page(introduction, 'pull', body, at, waitMs, signal);
    return decodePage(text);
  }

  async scan(
    introduction: FollowerIntroduction,
    from: number | undefined,
    resume: string | undefined,
    signal?: AbortSignal,
  ): Promise<FeedScan> {
    const body = { ...introduced(introduction), from, resume };
    const waitMs = limits.followerWaitMsMax;
    const text = await this.#page(introduction, 'scan', body, from, waitMs, signal);
    const end = text.indexOf('\n');
    const head = JSON.parse(text.slice(0, end)) as { resume: string | null };
    return { page: decodePage(text.slice(end + 1)), resume: head.resume ?? undefined };
  }

  async applied(introduction: FollowerIntroduction, signal?: AbortSignal): Promise<number> {
    const path = `${introduction.follower}/applied`;
    const answer = await this.#post(path, introduced(introduction), answerMs, signal);
    return (JSON.parse(answer.text) as { confirmed: number }).confirmed;
  }

  async status(): Promise<FollowersStatus> {
    const found = await this.#statuses('');
    if (found.length < 2) return mergeStatus(found);
    // Asked again, so that all answers are about one position.
    const tail = Math.max(...found.map((status) => status.tail));
    return mergeStatus(await this.#statuses(`?at=${tail}`));
  }

  async #statuses(query: string): Promise<FollowersStatus[]> {
    const answers = await Promise.allSettled(
      this.#pools.map((pool) => this.#request(pool, 'GET', query, undefined, answerMs)),
    );
    const found = answers.flatMap((answer) =>
      answer.status === 'fulfilled' ? [JSON.parse(answer.value.text) as FollowersStatus] : [],
    );
    if (found.length === 0 && answers[0]?.status === 'rejected') throw answers[0].reason;
    return found;
  }

  async forget(follower: string): Promise<void> {
    const path = `/${encodeURIComponent(follower)}`;
    // A node that does not answer keeps no other from it.
    const answers = await Promise.allSettled(
      this.#pools.map((pool) => this.#request(pool, 'DELETE', path, undefined, answerMs)),
    );
    let forgotten = false;
    for (const answer of answers) {
      if (answer.status === 'rejected') throw answer.reason;
      forgotten ||= (JSON.parse(answer.value.text) as { forgotten: boolean }).forgotten;
    }
    if (forgotten) return;
    throw new DaybookError('NOT_FOUND', `no node knows a follower ${follower}`, {
      details: { follower },
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.destroy()));
  }

  async #page(
    introduction: FollowerIntroduction,
    door: 'pull' | 'scan',
    body: object,
    from: number | undefined,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const { follower, keys } = introduction;
    const { text, type } = await this.#post(`${follower}/${door}`, body, waitMs + answerMs, signal);
    const encrypted = type.startsWith(encryptedMediaType);
    if (!encrypted && keys.length > 0) {
      throw new DaybookError('PAGE_ENCRYPTED', 'the node sent the page in the clear');
    }
    if (!encrypted) return text;
    const binding = { channel: this.#options.channel, follower, from };
    return decryptPage(text, keys, binding);
  }

  async #post(
    path: string,
    body: object,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ text: string; type: string }> {
    const pool = this.#pools[this.#current] as Pool;
    try {
      return await this.#request(pool, 'POST', `/${path}`, body, waitMs, signal);
    } catch (error) {
      // The next attempt goes to the next node, unless another request has moved on already.
      const moveOn = error instanceof DaybookError && error.retry !== 'never';
      if (moveOn && pool === this.#pools[this.#current]) {
        this.#current = (this.#current + 1) % this.#pools.length;
      }
      throw error;
    }
  }

  async #request(
    pool: Pool,
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    body: object | undefined,
    waitMs: number,
    signal?: AbortSignal,
  ): Promise<{ text: string; type: string }> {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    signal?.addEventListener('abort', stop);
    const timer = this.#options.io.timers.after(waitMs, stop);
    try {
      const answer = await pool.request({
        method,
        path: `/v1/channels/${encodeURIComponent(this.#options.channel)}/followers${path}`,
        headers: {
          ...this.#authorize(),
          // What a node answers with that does not know it is read, too.
          accept: `${compactMediaType}, */*`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: abort.signal,
      });
      const text = await answer.body.text();
      if (answer.statusCode === 200) {
        return { text, type: String(answer.headers['content-type'] ?? '') };
      }
      throw errorOf(text, answer.statusCode);
    } catch (cause) {
      if (cause instanceof DaybookError) throw cause;
      const why = whyUnreachable(cause);
      throw new DaybookError('PEER_UNREACHABLE', `no answer from a gateway: ${why}`, { cause });
    } finally {
      timer.cancel();
      signal?.removeEventListener('abort', stop);
    }
  }

  #authorize(): Record<string, string> {
    const { signer, channel, io } = this.#options;
    if (signer === undefined) return {};
    const nowMs = io.clock.nowMs();
    if (this.#authorization === undefined || nowMs > this.#authorization.untilMs) {
      this.#authorization = {
        header: `Daybook ${signReadToken(signer, channel, nowMs)}`,
        untilMs: nowMs + readTokenLifetimeMs / 2,
      };
    }
    return { authorization: this.#authorization.header };
  }
}

function introduced(introduction: FollowerIntroduction): object {
  const { run, subscription, applied, keys, changesMax, filling, parked } = introduction;
  const [current] = keys;
  return {
    run,
    subscription,
    applied,
    changesMax,
    filling,
    parked,
    ...(current === undefined ? {} : { key: publicHalf(current) }),
  };
}

function errorOf(text: string, status: number): DaybookError {
  try {
    return DaybookError.fromJSON(JSON.parse(text) as ErrorJson);
  } catch {
    return new DaybookError('PEER_UNREACHABLE', `not a Daybook gateway (HTTP ${status})`);
  }
}
