import { type Bytestring, ByteWriter } from '../../base/index.ts';
import {
  asAddress,
  type BlockRule,
  type BlockVersion,
  type ChannelConfig,
  type CommitRecord,
  decodeBatch,
  decodeEntry,
  decodeRecord,
  encodeChannelConfig,
  encodeEntry,
  encodeRecord,
  type MspConfig,
  type Position,
  positionOf,
  type ReadVersion,
  type Signer,
  type SigningMode,
  sha256,
  signBatch,
  stateKey,
  type VerdictCode,
  verdicts,
} from '../../model/index.ts';
import { singleProof } from '../../model/testing/single.ts';
import type { AppliedEntry } from '../../replica/index.ts';
import type { Row } from '../../state/index.ts';
import { Cutter } from '../cutter.ts';

/** One call of a test: the keys it reads, and what it writes (`undefined` deletes). */
export interface TestCall {
  readonly reads?: readonly string[];
  readonly writes?: Readonly<Record<string, string | undefined>>;
  /** Range read: start and end. */
  readonly range?: readonly [string, string];
  /** Reads a version that never was, so that replay finds the record invalid. */
  readonly stale?: boolean;
}

/** The contract of all test calls. */
export const testContract = 'bank';
export const testChannel = 'test-channel';

/** Makes logs, together with what replay would find in them. Deterministic but for signatures. */
export class TestLog {
  readonly entries: AppliedEntry[] = [];
  readonly rows = new Map<Bytestring, Row>();
  readonly #signer: Signer;
  readonly #msp: MspConfig;
  #address = 0;
  #nonce = 0;
  #timeMs = 1_700_000_000_000;
  #sequence = 0;
  readonly #cutter = new Cutter(positionOf(asAddress(0), 0), undefined);
  readonly #places = new Map<Position, BlockVersion>();
  #cuts = 0;

  constructor(member: { readonly signer: Signer; readonly msp: MspConfig }) {
    this.#signer = member.signer;
    this.#msp = member.msp;
  }

  config(blocks?: BlockRule): this {
    const access = [this.#msp.mspId];
    const config: ChannelConfig = {
      channel: testChannel,
      sequence: this.#sequence++,
      msps: [this.#msp],
      access: { submit: access, deploy: access, administer: access },
      exclusiveControl: 'interleaved',
      transactionLifetimeMs: 60_000,
      ...(blocks === undefined ? {} : { blocks }),
    };
    const json = encodeChannelConfig(config);
    const none = new Uint8Array();
    const entry = { kind: 'config', ...this.#header(), config: json } as const;
    const address = asAddress(this.#address++);
    const key = stateKey('_config', 'channel');
    this.rows.set(key, { key, value: json, version: positionOf(address, 0) });
    return this.#push(address, { ...entry, creator: none, signature: none }, verdicts.valid);
  }

  tick(): this {
    return this.#push(asAddress(this.#address++), { kind: 'tick', ...this.#header() });
  }

  fill(): this {
    const address = asAddress(this.#address++);
    this.#add({ address, entry: undefined, records: [], logTimeMs: this.#timeMs });
    return this;
  }

  /**
   * One entry with one batch of calls; every `gap`-th record is left out, as if refused. Signed
   * singly, every call has an entry of its own.
   */
  batch(calls: readonly TestCall[], mode: SigningMode = 'batch', gap = 0): this {
    if (mode === 'single') for (const call of calls) this.#entry([call], mode, 0);
    else this.#entry(calls, mode, gap);
    return this;
  }

  #entry(calls: readonly TestCall[], mode: SigningMode, gap: number): void {
    const address = asAddress(this.#address++);
    const header = this.#header();
    const batchId = sha256(Buffer.from(`batch ${address}`)).subarray(0, 16);
    const batch = decodeBatch(
      signBatch(
        this.#signer,
        testChannel,
        batchId,
        calls.map((_, at) => ({
          transaction: {
            channel: testChannel,
            contract: testContract,
            contractVersion: at % 2 === 0 ? '' : '1.0',
            functionName: 'run',
            args: [Buffer.from(`argument ${at}`), new Uint8Array()],
            nonce: sha256(Buffer.from(`nonce ${this.#nonce++}`)).subarray(0, 24),
            timestampMs: header.timestampMs - at,
          },
        })),
      ).bytes,
    );
    const kept = calls.map((_, at) => at).filter((at) => gap === 0 || at % gap !== gap - 1);
    const outcomes = kept.map((at) => {
      const item = batch.items[at] as (typeof batch.items)[number];
      const position = positionOf(address, at);
      return this.#execute(calls[at] as TestCall, position, {
        txId: item.txId,
        leaf: at,
        transactionBytes: item.bytes,
      });
    });
    const entry = {
      kind: 'records',
      ...header,
      identities: [batch.creatorBytes],
      batches: [
        mode === 'single'
          ? singleProof({
              recordBytes: (outcomes[0] as (typeof outcomes)[number]).bytes,
              batchId,
              creator: 0,
              endorser: 0,
              client: this.#signer,
              node: this.#signer,
              placeOf: (position) => this.#placeOf(position),
            })
          : {
              batchId,
              creator: 0,
              mode,
              size: calls.length,
              signatures: [batch.signature],
              proof: kept.length > 0 ? batch.tree.subsetProof(kept) : [],
            },
      ],
      records: outcomes.map(({ bytes }, at) => ({ index: kept[at] as number, bytes })),
    } as const;
    const decoded = decodeEntry(encodeEntry(entry));
    this.#add({
      address,
      entry: decoded,
      records: outcomes.map(({ bytes, verdict }, at) => ({
        position: positionOf(address, kept[at] as number),
        record: decodeRecord(bytes),
        verdict,
      })),
      logTimeMs: this.#timeMs,
    });
  }

  #add(applied: AppliedEntry): void {
    this.entries.push(applied);
    for (const cut of this.#cutter.push(applied)) {
      const block = this.#cuts++;
      if (cut.content.kind === 'config') this.#places.set(cut.first, { block, transaction: 0 });
      else {
        for (const [transaction, { position }] of cut.content.records.entries()) {
          this.#places.set(position, { block, transaction });
        }
      }
    }
  }

  #placeOf(position: Position): BlockVersion {
    const transaction = this.#cutter.placeOf(position);
    if (transaction !== undefined) return { block: this.#cuts, transaction };
    // A version that never was: for calls that read stale ones.
    return this.#places.get(position) ?? { block: 0, transaction: 65535 };
  }

  #execute(
    call: TestCall,
    position: Position,
    identity: Pick<CommitRecord, 'txId' | 'leaf' | 'transactionBytes'>,
  ): { bytes: Buffer; verdict: VerdictCode } {
    const versionOf = (key: string): ReadVersion =>
      call.stale === true ? (0 as Position) : this.rows.get(stateKey(testContract, key))?.version;
    const [start, end] = call.range ?? ['', ''];
    const found = (call.range === undefined ? [] : [...this.rows.keys()])
      .filter((key) => key >= stateKey(testContract, start) && key < stateKey(testContract, end))
      .map((key) => key.slice(testContract.length + 1))
      .sort();
    const writer = new ByteWriter();
    encodeRecord(
      {
        type: 'call',
        batch: 0,
        ...identity,
        contractVersion: '1.0',
        sets: [
          {
            namespace: testContract,
            reads: (call.reads ?? []).map((key) => ({ key, version: versionOf(key) })),
            ranges:
              call.range === undefined
                ? []
                : [
                    {
                      start,
                      end,
                      exhausted: true,
                      rows: found.map((key) => ({ key, version: versionOf(key) })),
                    },
                  ],
            writes: Object.entries(call.writes ?? {})
              .sort(([left], [right]) => (left < right ? -1 : 1))
              .map(([key, value]) => ({ key, value })),
            bulkUpdates: [],
          },
        ],
        result: `result of ${position}`,
        event: position % 3 === 0 ? { name: 'done', payload: 'payload' } : undefined,
      },
      writer,
    );
    if (call.stale === true) return { bytes: writer.finish(), verdict: verdicts.readConflict };
    for (const [name, value] of Object.entries(call.writes ?? {})) {
      const key = stateKey(testContract, name);
      if (value === undefined) this.rows.delete(key);
      else this.rows.set(key, { key, value, version: position });
    }
    return { bytes: writer.finish(), verdict: verdicts.valid };
  }

  #header(): { writer: string; timestampMs: number } {
    this.#timeMs += 10;
    return { writer: 'executor-1', timestampMs: this.#timeMs };
  }

  #push(address: AppliedEntry['address'], entry: object, configVerdict?: VerdictCode): this {
    this.#add({
      address,
      entry: decodeEntry(encodeEntry(entry as never)),
      records: [],
      logTimeMs: this.#timeMs,
      ...(configVerdict === undefined ? {} : { configVerdict }),
    });
    return this;
  }
}
