import { type Bytestring, bytestringOf, DaybookError, limits } from '../base/index.ts';
import {
  type Batch,
  type BatchItem,
  type BlockVersion,
  type ChannelConfig,
  type CommitRecord,
  type Endorsement,
  EnvelopeWriter,
  endorsedSource,
  endorsementMessage,
  identityBytes,
  joinRecord,
  lifecycleNamespace,
  notEndorsable,
  type Position,
  positionsRead,
  type Signer,
} from '../model/index.ts';
import { headOf } from './job.ts';

/** What a node needs to endorse. */
export interface Endorser {
  /** The node's identity. @throws {DaybookError} when it cannot be had */
  signer(): Promise<Signer>;
  /**
   * Block and transaction number of records that are applied; waits until the chain has got there.
   *
   * @param waitMs - how long at most.
   * @throws {DaybookError} `TIMEOUT`, or why there are no blocks.
   */
  placesOf(positions: readonly Position[], waitMs: number): Promise<readonly BlockVersion[]>;
}

/** A transaction that was executed and endorsed: it waits for its client's signature. */
export interface PreparedTransaction {
  readonly batch: Batch;
  readonly item: BatchItem;
  /** The record's. */
  readonly body: Buffer;
  readonly summary: Buffer;
  readonly endorsement: Endorsement;
  /** What the client is to sign: `common.Payload` of the envelope. */
  readonly payload: Buffer;
}

/**
 * Endorses what came out of a call.
 *
 * @param waitMs - how long it may wait for the chain.
 * @throws {DaybookError} `NOT_ENDORSABLE`, and what {@link Endorser} throws.
 */
export async function endorse(
  endorser: Endorser,
  config: ChannelConfig,
  batch: Batch,
  { body, summary }: { readonly body: Buffer; readonly summary: Buffer },
  waitMs: number,
): Promise<PreparedTransaction> {
  const [item] = batch.items;
  if (item === undefined) throw notPossible('there is no transaction');
  const record = joinRecord(headOf({ item, leaf: 0 }, 0), body);
  if (config.blocks?.cutBeforeReads === false) {
    throw notPossible('blocks of this channel are not cut so that Fabric finds reads valid');
  }
  const reason = notEndorsable(record, item.transaction);
  if (reason !== undefined) throw notPossible(reason);
  const signer = await endorser.signer();
  const { mspId } = signer.identity;
  const right = item.transaction.contract === lifecycleNamespace ? 'deploy' : 'submit';
  if (!config.access[right].includes(mspId)) throw notPossible(`${mspId} may not ${right}`);
  const versions = await endorser.placesOf(positionsRead(record) ?? [], waitMs);
  const unsigned = {
    endorser: identityBytes(signer.identity),
    signature: new Uint8Array(),
    versions,
  };
  const signature = signer.sign(
    endorsementMessage(
      writer.responsePayload(sourceOf(record, item, batch, unsigned)),
      unsigned.endorser,
    ),
  );
  const endorsement = { ...unsigned, signature };
  const payload = Buffer.from(writer.payload(sourceOf(record, item, batch, endorsement)));
  return { batch, item, body, summary, endorsement, payload };
}

const writer = new EnvelopeWriter();

function sourceOf(
  record: CommitRecord,
  { transaction }: BatchItem,
  { creatorBytes }: Batch,
  endorsement: Endorsement,
): Parameters<EnvelopeWriter['payload']>[0] {
  const source = endorsedSource(record, transaction, creatorBytes, endorsement);
  if (source === undefined) throw notPossible('the versions that it read are not known');
  return source;
}

/** The batch of one that goes to the log with the client's signature. */
export function signedBatch(
  { batch, item, endorsement }: PreparedTransaction,
  signature: Uint8Array,
): Batch {
  return { ...batch, mode: 'single', items: [{ ...item, endorsed: { signature, endorsement } }] };
}

/** Prepared transactions, for a while and up to limits; they are lost with the process. */
export class PreparedTransactions {
  readonly #entries = new Map<Bytestring, { prepared: PreparedTransaction; untilMs: number }>();
  readonly #max: number;
  readonly #lifetimeMs: number;
  #bytes = 0;

  constructor(
    max: number = limits.preparedTransactionsMax,
    lifetimeMs: number = limits.preparedLifetimeMs,
  ) {
    this.#max = max;
    this.#lifetimeMs = lifetimeMs;
  }

  /**
   * @param nowMs - monotonic.
   * @throws {DaybookError} `OVERLOADED`
   */
  add(prepared: PreparedTransaction, nowMs: number): void {
    this.#expire(nowMs);
    const key = bytestringOf(prepared.item.txId);
    this.delete(prepared.item.txId);
    const { preparedBytesMax } = limits;
    if (this.#entries.size >= this.#max) throw full('preparedTransactionsMax', this.#max);
    if (this.#bytes + sizeOf(prepared) > preparedBytesMax) {
      throw full('preparedBytesMax', preparedBytesMax);
    }
    this.#bytes += sizeOf(prepared);
    this.#entries.set(key, { prepared, untilMs: nowMs + this.#lifetimeMs });
  }

  get(txId: Uint8Array, nowMs: number): PreparedTransaction | undefined {
    this.#expire(nowMs);
    return this.#entries.get(bytestringOf(txId))?.prepared;
  }

  delete(txId: Uint8Array): void {
    const key = bytestringOf(txId);
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= sizeOf(entry.prepared);
  }

  #expire(nowMs: number): void {
    for (const { prepared, untilMs } of this.#entries.values()) {
      if (untilMs > nowMs) return;
      this.delete(prepared.item.txId);
    }
  }
}

function sizeOf({ body, summary, payload }: PreparedTransaction): number {
  return body.length + summary.length + payload.length;
}

function full(limit: 'preparedTransactionsMax' | 'preparedBytesMax', max: number): DaybookError {
  return new DaybookError('OVERLOADED', `${limit} is ${max}`, { details: { limit, max } });
}

function notPossible(reason: string): DaybookError {
  return new DaybookError('NOT_ENDORSABLE', `it cannot be signed singly: ${reason}`, {
    details: { reason },
  });
}
