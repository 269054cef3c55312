import { DaybookError, limits } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import {
  type Compare,
  compareResult,
  compareTarget,
  type KeyValue,
  type RangeResponse,
  type RequestOp,
  type TxnRequest,
  type TxnResponse,
} from './etcd-api.ts';
import { decodeFence, encodeFence, type Fence, type KnownFence } from './fence.ts';
import { type Keys, prefixEnd } from './keys.ts';
import type { LayoutUnit } from './layout.ts';
import type { SpaceWatch } from './space.ts';
import type { UnitClient } from './unit-client.ts';
import { WriteBatcher } from './write-batcher.ts';

/** Entries of a unit in address order, with the fence at the same revision. */
export interface Page {
  readonly kvs: readonly KeyValue[];
  /** There are more entries behind the last one. */
  readonly more: boolean;
  /** How many entries there are in all from the page's beginning on. */
  readonly count: number;
  readonly revision: number;
  readonly fence: KnownFence;
}

/** What etcd did with one entry. */
export type PutOutcome =
  | { readonly written: true }
  | { readonly written: false; readonly existing: KeyValue | undefined };

/** One log unit: the log's requests in terms of etcd's. Remembers the newest fence it has seen. */
export class Unit {
  readonly id: string;
  readonly client: UnitClient;
  readonly space: SpaceWatch;
  readonly #keys: Keys;
  readonly #batcher: WriteBatcher;
  #fence: KnownFence | undefined;

  constructor(id: string, client: UnitClient, keys: Keys, space: SpaceWatch) {
    this.id = id;
    this.client = client;
    this.#keys = keys;
    this.space = space;
    this.#batcher = new WriteBatcher((request) => client.call('txn', request));
  }

  /** As in a layout. */
  get description(): LayoutUnit {
    return { id: this.id, endpoints: this.client.endpoints };
  }

  /** The fence as last seen; it only moves forward. */
  get knownFence(): KnownFence | undefined {
    return this.#fence;
  }

  /**
   * The write rule: if nothing stands at `address` and the fence is still `fence` then put `value`.
   *
   * @throws {DaybookError} `TIMEOUT`, `OVERLOADED`, `CLOSED`
   */
  async put(address: Address, value: Buffer, fence: KnownFence): Promise<PutOutcome> {
    this.space.check();
    const key = this.#keys.entry(address);
    const request: TxnRequest = {
      compare: [absent(key), this.#fenceIs(fence)],
      success: [{ request_put: { key, value } }],
      failure: [{ request_range: { key } }, this.#fenceOp()],
    };
    const answer = await this.#batcher.submit(address, request, value.length);
    if (answer.succeeded) return { written: true };
    this.#learnFence(rangeAt(answer, 1));
    return { written: false, existing: rangeAt(answer, 0).kvs[0] };
  }

  /** Puts a part of a split entry; false when the fence has changed. */
  async putPart(key: Buffer, value: Buffer, fence: KnownFence): Promise<boolean> {
    this.space.check();
    const answer = await this.client.call('txn', {
      compare: [this.#fenceIs(fence)],
      success: [{ request_put: { key, value } }],
      failure: [this.#fenceOp()],
    });
    if (!answer.succeeded) this.#learnFence(rangeAt(answer, 0));
    return answer.succeeded;
  }

  /** The entry at `address`, if any, with the fence at the same revision. */
  async get(address: Address): Promise<{ kv: KeyValue | undefined; fence: KnownFence }> {
    const { range, fence } = await this.#rangeAndFence({ key: this.#keys.entry(address) });
    return { kv: range.kvs[0], fence };
  }

  /** Up to `limit` entries from `from` on. */
  async page(from: Address, limit: number, keysOnly = false): Promise<Page> {
    const { range, fence, revision } = await this.#rangeAndFence({
      key: this.#keys.entry(from),
      range_end: this.#keys.entriesEnd,
      limit,
      keys_only: keysOnly,
    });
    return { kvs: range.kvs, more: range.more, count: Number(range.count), revision, fence };
  }

  /**
   * The entries in `[from, before)`, of which there are more behind. Far from the tail this is
   * cheaper than {@link Unit.page}, for which etcd walks all keys to the end of the log.
   */
  async pageBefore(from: Address, before: Address): Promise<Page> {
    const { range, fence, revision } = await this.#rangeAndFence({
      key: this.#keys.entry(from),
      range_end: this.#keys.entry(before),
    });
    return { kvs: range.kvs, more: true, count: Number(range.count), revision, fence };
  }

  /** The values of all keys that begin with `prefix`, read in pages of one value each. */
  async valuesUnder(prefix: Buffer): Promise<Buffer[]> {
    const values: Buffer[] = [];
    let key = prefix;
    for (;;) {
      const range = await this.client.call('range', {
        key,
        range_end: prefixEnd(prefix),
        limit: 1,
      });
      const kv = range.kvs[0];
      if (kv === undefined) return values;
      values.push(kv.value);
      if (!range.more) return values;
      key = Buffer.concat([kv.key, Buffer.of(0)]);
    }
  }

  /** Deletes the keys in `[from, end)`. */
  async deleteRange(from: Buffer, end: Buffer): Promise<void> {
    await this.client.call('deleteRange', { key: from, range_end: end });
  }

  /** The fence as it is now; `undefined` when this cluster has never been a unit of the log. */
  async readFence(): Promise<KnownFence | undefined> {
    const answer = await this.client.call('range', { key: this.#keys.fence });
    return answer.kvs.length === 0 ? undefined : this.#learnFence(answer);
  }

  /** Creates the fence of a unit that has none; an existing one stays. Returns what stands. */
  async createFence(fence: Fence): Promise<KnownFence> {
    const key = this.#keys.fence;
    await this.client.call('txn', {
      compare: [absent(key)],
      success: [{ request_put: { key, value: encodeFence(fence) } }],
    });
    return (await this.readFence()) ?? unfounded(this.id);
  }

  /**
   * Changes the fence; `change` returns the new one, or `undefined` to leave it as it is. Returns
   * the fence that stands afterwards.
   */
  async changeFence(
    by: string,
    change: (fence: KnownFence) => Omit<Fence, 'by'> | undefined,
  ): Promise<KnownFence> {
    let fence = (await this.readFence()) ?? unfounded(this.id);
    for (;;) {
      if (fence.by === by) return fence;
      const next = change(fence);
      if (next === undefined) return fence;
      const key = this.#keys.fence;
      const answer = await this.client.call('txn', {
        compare: [this.#fenceIs(fence)],
        success: [{ request_put: { key, value: encodeFence({ ...next, by }) } }, this.#fenceOp()],
        failure: [this.#fenceOp()],
      });
      fence = this.#learnFence(rangeAt(answer, answer.succeeded ? 1 : 0));
      if (answer.succeeded) return fence;
    }
  }

  /** Decodes a fence seen elsewhere (in a watch) and remembers it when it is newer. */
  learnFence(kv: KeyValue): KnownFence {
    const fence = decodeFence(kv);
    if (this.#fence === undefined || fence.revision > this.#fence.revision) this.#fence = fence;
    return fence;
  }

  /** The layouts from `generation` on that this unit knows, oldest first. */
  async layoutsFrom(generation: number): Promise<readonly Buffer[]> {
    const answer = await this.client.call('range', {
      key: this.#keys.layout(generation),
      range_end: this.#keys.layout(99_999_999),
    });
    return answer.kvs.map((kv) => kv.value);
  }

  /** Stores a layout unless that generation has one already; returns the one that stands. */
  async decideLayout(generation: number, layout: Buffer): Promise<Buffer> {
    const key = this.#keys.layout(generation);
    const answer = await this.client.call('txn', {
      compare: [absent(key)],
      success: [{ request_put: { key, value: layout } }],
      failure: [{ request_range: { key } }],
    });
    return answer.succeeded ? layout : ((rangeAt(answer, 0).kvs[0] as KeyValue).value as Buffer);
  }

  close(): void {
    this.client.close();
  }

  async #rangeAndFence(
    request: RequestOp['request_range'] & object,
  ): Promise<{ range: RangeResponse; fence: KnownFence; revision: number }> {
    const answer = await this.client.call('txn', {
      compare: [],
      success: [{ request_range: request }, this.#fenceOp()],
    });
    return {
      range: rangeAt(answer, 0),
      fence: this.#learnFence(rangeAt(answer, 1)),
      revision: Number(answer.header.revision),
    };
  }

  #learnFence(answer: RangeResponse): KnownFence {
    const kv = answer.kvs[0];
    return kv === undefined ? unfounded(this.id) : this.learnFence(kv);
  }

  #fenceOp(): RequestOp {
    return { request_range: { key: this.#keys.fence } };
  }

  #fenceIs(fence: KnownFence): Compare {
    return {
      key: this.#keys.fence,
      target: compareTarget.mod,
      result: compareResult.equal,
      mod_revision: fence.revision,
    };
  }
}

/** The condition that a key does not exist. */
export function absent(key: Buffer): Compare {
  return {
    key,
    target: compareTarget.create,
    result: compareResult.equal,
    create_revision: 0,
  };
}

/** The last address of a page, or `undefined` when it is empty. */
export function lastAddress(keys: Keys, page: Page): Address | undefined {
  const kv = page.kvs[page.kvs.length - 1];
  return kv === undefined ? undefined : asAddress(keys.addressOf(kv.key));
}

function rangeAt(answer: TxnResponse, index: number): RangeResponse {
  const range = answer.responses[index]?.response_range;
  if (!range) throw new DaybookError('INTERNAL', 'etcd answered something else than asked');
  return range;
}

function unfounded(id: string): never {
  throw new DaybookError('LOG_DAMAGED', `log unit ${id} has lost its fence: its data is gone`);
}

/** Entries that one page of a follower may hold. */
export function pageEntries(averageBytes: number): number {
  return Math.max(16, Math.min(128, Math.floor((limits.logBatchBytesMax * 4) / averageBytes)));
}
