import { DaybookError } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import type { Compare, KeyValue, RangeResponse, RequestOp, TxnRequest } from './etcd-api.ts';
import { decodeFence, encodeFence, type Fence, type KnownFence } from './fence.ts';
import { type Keys, prefixEnd } from './keys.ts';
import type { LayoutUnit } from './layout.ts';
import type { SpaceWatch } from './space.ts';
import { absent, present, rangeAt, unchangedSince } from './txn.ts';
import type { UnitClient } from './unit-client.ts';
import { WriteBatcher } from './write-batcher.ts';

/** About what etcd stores beside a value. */
const keyBytes = 256;

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
  | { readonly written: false; readonly existing: KeyValue | undefined; readonly shut: boolean };

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
   * The write rule: if nothing stands at `address`, the fence is still `fence` and the gate is open
   * then put `value`.
   *
   * @param admitted - asks for no space: without what closes a hole or ends a block nobody could go on to
   *   where the log can be trimmed.
   * @throws {DaybookError} `TIMEOUT`, `OVERLOADED`, `CLOSED`
   */
  async put(
    address: Address,
    value: Buffer,
    fence: KnownFence,
    admitted = false,
  ): Promise<PutOutcome> {
    if (!admitted) await this.space.admit(value.length + keyBytes);
    const key = this.#keys.entry(address);
    const request: TxnRequest = {
      compare: [absent(key), this.#fenceIs(fence), present(this.#keys.gate)],
      success: [{ request_put: { key, value } }],
      failure: [
        { request_range: { key } },
        this.#fenceOp(),
        { request_range: { key: this.#keys.gate } },
      ],
    };
    const answer = await this.#batcher.submit(address, request, value.length);
    if (answer.succeeded) return { written: true };
    this.fenceIn(rangeAt(answer, 1));
    const shut = rangeAt(answer, 2).kvs.length === 0;
    return { written: false, existing: rangeAt(answer, 0).kvs[0], shut };
  }

  /** Puts a part of a split entry; false when the fence has changed. */
  async putPart(key: Buffer, value: Buffer, fence: KnownFence): Promise<boolean> {
    await this.space.admit(value.length + keyBytes);
    const answer = await this.client.call('txn', {
      compare: [this.#fenceIs(fence)],
      success: [{ request_put: { key, value } }],
      failure: [this.#fenceOp()],
    });
    if (!answer.succeeded) this.fenceIn(rangeAt(answer, 0));
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
    return answer.kvs.length === 0 ? undefined : this.fenceIn(answer);
  }

  /** Creates fence and gate of a unit that has none; an existing one stays. Returns what stands. */
  async createFence(fence: Fence): Promise<KnownFence> {
    const { fence: key, gate } = this.#keys;
    const putGate = { request_put: { key: gate, value: Buffer.alloc(0) } };
    await this.client.call('txn', {
      compare: [absent(key)],
      success: [{ request_put: { key, value: encodeFence(fence) } }, putGate],
    });
    return (await this.readFence()) ?? unfounded(this);
  }

  /**
   * Changes the fence; `change` returns the new one, or `undefined` to leave it as it is. Returns
   * the fence that stands afterwards.
   */
  async changeFence(
    by: string,
    change: (fence: KnownFence) => Omit<Fence, 'by'> | undefined,
  ): Promise<KnownFence> {
    let fence = (await this.readFence()) ?? unfounded(this);
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
      fence = this.fenceIn(rangeAt(answer, answer.succeeded ? 1 : 0));
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
      fence: this.fenceIn(rangeAt(answer, 1)),
      revision: Number(answer.header.revision),
    };
  }

  /**
   * The fence as a transaction read it.
   *
   * @throws {DaybookError} `LOG_DAMAGED` when there is none.
   */
  fenceIn(answer: RangeResponse): KnownFence {
    const kv = answer.kvs[0];
    return kv === undefined ? unfounded(this) : this.learnFence(kv);
  }

  #fenceOp(): RequestOp {
    return { request_range: { key: this.#keys.fence } };
  }

  #fenceIs(fence: KnownFence): Compare {
    return unchangedSince(fence.revision, this.#keys.fence);
  }
}

function unfounded({ id, client }: Unit): never {
  const where = client.endpoints.join();
  throw new DaybookError(
    'LOG_DAMAGED',
    `log unit ${id} has no fence: its data is gone, or ${where} are members of several clusters`,
  );
}
