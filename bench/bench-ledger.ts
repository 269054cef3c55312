import { ByteWriter } from '../src/base/index.ts';
import {
  type Batch,
  channelConfigDefaults,
  decodeBatch,
  encodeChannelConfig,
  encodeEntry,
  encodeRecordBody,
  type Position,
  type ReadVersion,
  type Signer,
  signBatch,
  stateKey,
} from '../src/model/index.ts';
import { DevelopmentCa } from '../src/node/dev-ca.ts';
import type { StateChange } from '../src/state/index.ts';

/** What a bench of single rooms needs of a channel: its founding entry, rows, and records. */
export class BenchLedger {
  readonly founding: Buffer;
  /** Milliseconds since 1970: the certificates are valid from before then. */
  readonly startMs: number;
  readonly #signer: Signer;
  readonly #writer = new ByteWriter();
  readonly #padding: string;
  #nonce = 0;

  /** @param valueBytes - about so long is the value of a row. */
  static async create(valueBytes: number): Promise<BenchLedger> {
    const startMs = Date.now();
    const ca = await DevelopmentCa.create('Org1', startMs);
    const { signer } = await ca.issue('bench');
    const msps = [{ mspId: 'Org1', rootCertificates: [ca.root.certificate] }];
    const access = { submit: ['Org1'], deploy: ['Org1'], administer: ['Org1'] };
    const config = { ...channelConfigDefaults, channel: 'bench', msps, access };
    const founding = encodeEntry({
      kind: 'config',
      writer: 'bench',
      timestampMs: startMs,
      config: encodeChannelConfig(config),
      creator: new Uint8Array(),
      signature: new Uint8Array(),
    });
    return new BenchLedger(signer, Buffer.from(founding), { startMs, valueBytes });
  }

  private constructor(
    signer: Signer,
    founding: Buffer,
    { startMs, valueBytes }: { startMs: number; valueBytes: number },
  ) {
    this.startMs = startMs;
    this.#signer = signer;
    this.founding = founding;
    this.#padding = 'x'.repeat(Math.max(0, valueBytes - 54));
  }

  /** The contract, and `keys` rows, all of this version. */
  *rows(keys: number, version: Position): Generator<StateChange['writes'][number]> {
    const definition = { version: '1', sequence: 1, bundleHash: '', options: {} };
    const key = stateKey('_lifecycle', 'contracts/bench/definition');
    yield { key, value: JSON.stringify(definition), version };
    for (let at = 0; at < keys; at++) {
      yield { key: stateKey('bench', keyOf(at)), value: this.#value(0), version };
    }
  }

  /** A signed batch of `count` calls. */
  batch(count: number, timestampMs: number): Batch {
    const calls = Array.from({ length: count }, () => ({
      transaction: {
        channel: 'bench',
        contract: 'bench',
        contractVersion: '',
        functionName: 'move',
        args: [Buffer.from('account-00000001'), Buffer.from('account-00000002')],
        nonce: this.#nextNonce(),
        timestampMs,
      },
    }));
    const batchId = this.#nextNonce().subarray(0, 16);
    return decodeBatch(signBatch(this.#signer, 'bench', batchId, calls).bytes);
  }

  /** The body of the record of a call that read some rows and wrote them anew. */
  recordBody(leaf: number, rows: readonly RowRead[]): Buffer {
    this.#writer.reset();
    encodeRecordBody(
      {
        contractVersion: '1',
        sets: [
          {
            namespace: 'bench',
            reads: rows.map(({ row, version }) => ({ key: keyOf(row), version })),
            ranges: [],
            writes: rows.map(({ row }) => ({ key: keyOf(row), value: this.#value(leaf) })),
            bulkUpdates: [],
          },
        ],
        result: 'ok',
        event: undefined,
      },
      this.#writer,
    );
    return this.#writer.finish();
  }

  #value(amount: number): string {
    const value = { owner: 'somebody with a name', balance: String(amount + 1_000_000) };
    return this.#padding === ''
      ? JSON.stringify(value)
      : JSON.stringify({ ...value, note: this.#padding });
  }

  #nextNonce(): Uint8Array {
    const nonce = Buffer.alloc(24);
    nonce.writeUInt32BE(this.#nonce++, 0);
    return nonce;
  }
}

/** A row that a call read and wrote, by number. */
export interface RowRead {
  readonly row: number;
  readonly version: ReadVersion;
}

/** The name of a row, within the contract's namespace. */
export function keyOf(row: number): string {
  return `account-${String(row).padStart(8, '0')}`;
}
