import { Webhook } from 'standardwebhooks';
import { Agent, request } from 'undici';
import { checkLimit, DaybookError } from '../../base/index.ts';
import type { Io } from '../../io/index.ts';
import { type ChangeRecord, changeId, entityOf } from '../change.ts';
import type { SinkPosition } from '../follower-core.ts';
import type { MappedChange } from '../processor.ts';
import {
  type FillBatch,
  type FillHooks,
  type ParkedChange,
  refused,
  type Sink,
  type SinkBatch,
  type SinkState,
  unavailable,
} from './sink.ts';

/** Settings of {@link webhookSink}. */
export interface WebhookSinkOptions {
  readonly io: Pick<Io, 'clock' | 'disk'>;
  readonly follower: string;
  readonly url: string;
  /** Shared with the receiver, who checks `webhook-signature` by it; base64, may begin with `whsec_`. */
  readonly secret: string;
  /** Absolute path of a file for the cursor and the parked changes. */
  readonly file: string;
  /** How long the receiver may take, milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
}

/** Body of a delivery, JSON. */
export interface WebhookDelivery {
  readonly follower: string;
  /** True: rows of a fill; what the receiver has of other entities is old once the fill has ended. */
  readonly fill: boolean;
  /** Inside a fill, counted from 1: with the first part a receiver forgets a fill that did not end. */
  readonly part?: number;
  /** Everything before this position is delivered; not set inside a fill. */
  readonly position?: number;
  readonly changes: readonly (ChangeRecord & {
    readonly operations?: MappedChange['operations'];
  })[];
}

interface Saved {
  readonly at?: SinkPosition;
  /** Names the fill that the deliveries build on. */
  readonly fillId?: number;
  readonly parked: readonly ParkedChange[];
}

const refusals = new Set([400, 409, 410, 413, 415, 422]);

/**
 * Sends pages to a URL, signed as the Standard Webhooks specification says. There is no transaction
 * with the receiver: a page may come twice, with the same `webhook-id`; an older content never after
 * a newer one, but for such repetitions.
 */
export function webhookSink(options: WebhookSinkOptions): Sink {
  return new WebhookSink(options);
}

class WebhookSink implements Sink {
  readonly #options: WebhookSinkOptions;
  readonly #webhook: Webhook;
  #agent: Agent | undefined;
  #saved: Saved = { parked: [] };

  constructor(options: WebhookSinkOptions) {
    this.#options = options;
    this.#webhook = new Webhook(options.secret);
  }

  async open(): Promise<SinkState> {
    await this.close();
    const timeout = this.#options.timeoutMs ?? 10_000;
    this.#agent = new Agent({ headersTimeout: timeout, bodyTimeout: timeout, connections: 1 });
    const bytes = await this.#options.io.disk.readFile(this.#options.file);
    this.#saved = bytes === undefined ? { parked: [] } : (JSON.parse(bytes.toString()) as Saved);
    const waiting = this.#saved.parked.filter(({ waits }) => waits);
    return { at: this.#saved.at, parked: waiting.map(({ change }) => entityOf(change)) };
  }

  async apply(from: number, batch: SinkBatch, at: SinkPosition): Promise<void> {
    if (this.#saved.at?.position !== from) {
      throw new DaybookError('SINK_FENCED', 'the cursor was moved', { details: { from } });
    }
    if (batch.changes.length > 0) {
      const id = `${this.#saved.fillId ?? 0}-${from}-${at.position}`;
      await this.#send(id, batch.changes, { position: at.position });
    }
    await this.#save({ ...this.#saved, at, parked: [...this.#saved.parked, ...batch.parked] });
  }

  /** A receiver cannot try: what it takes here it gets once more with its page. */
  async tryOut(changes: readonly MappedChange[]): Promise<void> {
    const last = changes.at(-1);
    if (last === undefined) return;
    await this.#send(`try-${changes.length}-${changeId(last.change)}`, changes, {});
  }

  async fill(batches: AsyncIterable<FillBatch>, hooks: FillHooks): Promise<SinkPosition> {
    const parked: ParkedChange[] = [];
    let end: SinkPosition | undefined;
    let part = 0;
    // Receivers know a repeated delivery by its id, and a fill repeats none of an earlier one.
    const fillId = this.#options.io.clock.nowMs();
    for await (const { at, revisionMax: _revisionMax, ...batch } of batches) {
      let left: SinkBatch = batch;
      const send = async (id: string): Promise<void> => {
        if (left.changes.length === 0) return;
        await this.#send(`fill-${fillId}-${id}`, left.changes, { fill: true, part: part + 1 });
        part++;
      };
      try {
        await send(`${part}`);
      } catch (error) {
        if (!(error instanceof DaybookError) || error.code !== 'SINK_REFUSED') throw error;
        left = await hooks.refused(batch, error);
        await send(`${part}-left`);
      }
      parked.push(...left.parked);
      end = at ?? end;
    }
    if (end === undefined) throw new DaybookError('CLOSED', 'the fill ended early');
    const rest = { fill: true, part: part + 1, position: end.position };
    await this.#send(`fill-${fillId}-end`, [], rest);
    await this.#save({ at: end, fillId, parked });
    return end;
  }

  async readParked(): Promise<readonly ParkedChange[]> {
    return this.#saved.parked.filter(({ waits }) => waits);
  }

  async unpark(batch: SinkBatch, taken: readonly ChangeRecord[]): Promise<void> {
    const gone = new Set(taken.map(changeId));
    if (batch.changes.length > 0) await this.#send(`unpark-${[...gone][0]}`, batch.changes, {});
    const left = this.#saved.parked.filter(({ change }) => !gone.has(changeId(change)));
    await this.#save({ ...this.#saved, parked: [...left, ...batch.parked] });
  }

  async close(): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    await agent?.destroy();
  }

  async #save(saved: Saved): Promise<void> {
    checkLimit('followerParkedMax', saved.parked.length);
    await this.#options.io.disk.writeFile(this.#options.file, Buffer.from(JSON.stringify(saved)));
    this.#saved = saved;
  }

  async #send(
    id: string,
    changes: readonly MappedChange[],
    rest: Partial<WebhookDelivery>,
  ): Promise<void> {
    const { follower, url, io } = this.#options;
    const delivery: WebhookDelivery = {
      follower,
      fill: false,
      ...rest,
      changes: changes.map(({ change, operations }) =>
        operations.length === 0 ? change : { ...change, operations },
      ),
    };
    const body = JSON.stringify(delivery);
    const messageId = `${follower}-${id}`;
    const now = new Date(io.clock.nowMs());
    let status: number;
    try {
      const answer = await request(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'webhook-id': messageId,
          'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
          'webhook-signature': this.#webhook.sign(messageId, now, body),
        },
        body,
        ...(this.#agent === undefined ? {} : { dispatcher: this.#agent }),
      });
      await answer.body.dump();
      status = answer.statusCode;
    } catch (cause) {
      throw unavailable(`webhook ${url}`, cause);
    }
    if (status >= 200 && status < 300) return;
    const cause = new Error(`HTTP status ${status}`);
    throw refusals.has(status)
      ? refused(`webhook ${url}`, cause)
      : unavailable(`webhook ${url}`, cause);
  }
}
