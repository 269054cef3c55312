import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteWriter, bytestringOf, isDaybookError, limits } from '../base/index.ts';
import { type Batch, decodeBatch, signBatch } from './batch.ts';
import { channelConfigDefaults, decodeChannelConfig, encodeChannelConfig } from './config.ts';
import { decodeEntry, type Entry, encodeEntry } from './entry.ts';
import { identityBytes, identityFromBytes, type Signer } from './identity.ts';
import { asAddress, asPosition, positionOf } from './position.ts';
import {
  type CommitRecord,
  decodeRecord,
  encodeRecord,
  encodeRecordBody,
  encodeRecordHead,
  type KeyRead,
  patchVersion,
  recordHeadBytes,
} from './record.ts';
import { splitStateKey, stateKey } from './state-key.ts';
import {
  argumentsOf,
  decodeTransaction,
  encodeTransaction,
  type Transaction,
} from './transaction.ts';

/* Random values of every shape. */

const name = fc.string({ minLength: 1, maxLength: 20 });
const bytes = fc.uint8Array({ maxLength: 60 }).map((value) => Buffer.from(value));
const bytestring = bytes.map(bytestringOf);
const exactly = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((value) => Buffer.from(value));

const transaction: fc.Arbitrary<Transaction> = fc.record({
  channel: name,
  contract: name,
  contractVersion: fc.string({ maxLength: 8 }),
  functionName: name,
  args: fc.array(bytes, { maxLength: 4 }),
  nonce: exactly(limits.nonceBytes),
  timestampMs: fc.nat(Number.MAX_SAFE_INTEGER),
});

const read = fc.record({
  key: bytestring,
  version: fc.oneof(
    fc.constant(undefined),
    fc.nat(Number.MAX_SAFE_INTEGER - 1).map(asPosition),
    fc.nat(limits.recordsPerEntryMax - 1).map((index) => ({ index })),
  ),
});

const record: fc.Arbitrary<CommitRecord> = fc.record({
  type: fc.constantFrom('call', 'deploy'),
  txId: exactly(32),
  batch: fc.nat(65535),
  leaf: fc.nat(65535),
  transactionBytes: transaction.map(encodeTransaction),
  contractVersion: name,
  sets: fc.array(
    fc.record({
      namespace: name,
      reads: fc.array(read, { maxLength: 4 }),
      ranges: fc.array(
        fc.record({
          start: bytestring,
          end: bytestring,
          exhausted: fc.boolean(),
          rows: fc.array(read, { maxLength: 3 }),
        }),
        { maxLength: 2 },
      ),
      writes: fc.array(
        fc.record({ key: bytestring, value: fc.option(bytestring, { nil: undefined }) }),
        { maxLength: 4 },
      ),
      bulkUpdates: fc.array(
        fc.record({
          start: bytestring,
          end: bytestring,
          query: fc.string(),
          update: fc.string(),
          rows: fc.nat(),
        }),
        { maxLength: 2 },
      ),
    }),
    { maxLength: 3 },
  ),
  result: bytestring,
  event: fc.option(fc.record({ name, payload: bytestring }), { nil: undefined }),
});

const proof = {
  batchId: exactly(16),
  creator: fc.constant(0),
  size: fc.nat(1000),
  signatures: fc.array(bytes, { maxLength: 3 }),
  proof: fc.array(exactly(32), { maxLength: 3 }),
};
const header = { writer: name, timestampMs: fc.nat(Number.MAX_SAFE_INTEGER) };
const entry: fc.Arbitrary<Entry> = fc.oneof(
  fc.record({ kind: fc.constant('tick' as const), ...header }),
  fc.record({
    kind: fc.constant('config' as const),
    ...header,
    config: fc.string(),
    creator: bytes,
    signature: bytes,
  }),
  fc.record({
    kind: fc.constant('records' as const),
    ...header,
    identities: fc.array(bytes, { minLength: 1, maxLength: 3 }),
    batches: fc.array(
      fc.oneof(
        fc.record({ ...proof, mode: fc.constant('batch' as const) }),
        fc.record({
          ...proof,
          mode: fc.constant('single' as const),
          endorsement: fc.record({
            endorser: fc.constant(0),
            signature: bytes,
            versions: fc.array(fc.record({ block: fc.nat(), transaction: fc.nat(65535) })),
          }),
        }),
      ),
      { maxLength: 3 },
    ),
    records: fc
      .uniqueArray(fc.nat(limits.recordsPerEntryMax - 1), { maxLength: 5 })
      .chain((indices) =>
        fc.tuple(
          ...indices
            .sort((a, b) => a - b)
            .map((index) => fc.record({ index: fc.constant(index), bytes })),
        ),
      ),
  }),
);

const signer: Signer = {
  identity: { mspId: 'BankMSP', certificate: '-----BEGIN CERTIFICATE-----\nMII\n' },
  sign: (message) => createHash('sha256').update(message).digest(),
};

const encodedRecord = (value: CommitRecord): Buffer => {
  const writer = new ByteWriter();
  encodeRecord(value, writer);
  return writer.finish();
};

/** A decoded transaction makes some fields when they are asked for. */
function fieldsOf(decoded: Transaction): Transaction {
  const { channel, contract, contractVersion, functionName, args, nonce, timestampMs } = decoded;
  return { channel, contract, contractVersion, functionName, args, nonce, timestampMs };
}

/** Byte fields come back as views; compare their content. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, plain(field)]));
}

/* Round trips. */

test('transactions, records, entries, identities come back as they went', () => {
  fc.assert(
    fc.property(transaction, record, entry, (aTransaction, aRecord, anEntry) => {
      const bytes = encodeTransaction(aTransaction);
      expect(plain(fieldsOf(decodeTransaction(bytes)))).toEqual(plain(aTransaction));
      const framed = Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(2)]);
      const received = decodeTransaction(framed, 3, 3 + bytes.length);
      expect(plain(fieldsOf(received))).toEqual(plain(aTransaction));
      const texts = aTransaction.args.map(bytestringOf);
      expect(argumentsOf(received)).toEqual(texts);
      expect(argumentsOf(aTransaction)).toEqual(texts);
      expect(plain(decodeRecord(encodedRecord(aRecord)))).toEqual(plain(aRecord));
      expect(plain(decodeEntry(encodeEntry(anEntry)))).toEqual(plain(anEntry));
    }),
  );
  expect(identityFromBytes(identityBytes(signer.identity))).toEqual(signer.identity);
});

test('batches come back as they were signed', () => {
  fc.assert(
    fc.property(
      fc.array(transaction, { minLength: 1, maxLength: 5 }),
      exactly(16),
      (transactions, batchId) => {
        const calls = transactions.map((each) => ({
          transaction: { ...each, channel: 'c' },
          orderingKey: 'k',
        }));
        const signed = signBatch(signer, 'c', batchId, calls);
        const batch: Batch = decodeBatch(signed.bytes);
        expect(batch.items.map((item) => plain(fieldsOf(item.transaction)))).toEqual(
          calls.map((call) => plain(call.transaction)),
        );
        expect(batch.items.map((item) => Buffer.from(item.txId).toString('hex'))).toEqual(
          signed.txIds,
        );
        expect(batch.mode).toBe('batch');
      },
    ),
  );
});

test('the encoder names the place of every version, and patches change nothing else', () => {
  fc.assert(
    fc.property(record, (value) => {
      const writer = new ByteWriter();
      encodeRecordHead(value, writer);
      expect(writer.length).toBe(recordHeadBytes(value.transactionBytes.length));
      const head = writer.finish();
      writer.reset();
      const slots: { readonly offset: number; readonly read: KeyRead }[] = [];
      encodeRecordBody(value, writer, (offset, read) => slots.push({ offset, read }));
      const body = writer.finish();
      for (const slot of slots) patchVersion(body, slot.offset, { index: 7 });
      const local = (read: { key: string }) => ({ key: read.key, version: { index: 7 } });
      const expected = {
        ...value,
        sets: value.sets.map((set) => ({
          ...set,
          reads: set.reads.map(local),
          ranges: set.ranges.map((range) => ({ ...range, rows: range.rows.map(local) })),
        })),
      };
      expect(plain(decodeRecord(Buffer.concat([head, body])))).toEqual(plain(expected));
      for (const slot of slots) patchVersion(body, slot.offset, slot.read.version);
      expect(Buffer.concat([head, body])).toEqual(encodedRecord(value));
    }),
  );
});

test('state keys split into what they were made of', () => {
  fc.assert(
    fc.property(
      name.filter((text) => !text.includes('\0')),
      bytestring,
      (namespace, key) => {
        expect(splitStateKey(stateKey(namespace, key))).toEqual({ namespace, key });
      },
    ),
  );
});

test('a channel configuration is checked field by field', () => {
  const config = {
    channel: 'payments',
    ...channelConfigDefaults,
    msps: [{ mspId: 'BankMSP', rootCertificates: ['pem'], revoked: [] }],
    access: { submit: ['BankMSP'], deploy: ['BankMSP'], administer: ['BankMSP'] },
  };
  const json = encodeChannelConfig(config);
  expect(decodeChannelConfig(json)).toEqual(config);
  const wrong = (change: object): void =>
    expect(() => decodeChannelConfig(JSON.stringify({ ...config, ...change }))).toThrow(
      /channel configuration/,
    );
  wrong({ channel: 'No Spaces' });
  wrong({ sequence: -1 });
  wrong({ msps: [{}] });
  wrong({ access: { submit: 'everyone' } });
  wrong({ exclusiveControl: 'none' });
  wrong({ transactionLifetimeMs: 0 });
  expect(() => decodeChannelConfig('{')).toThrow(/not JSON/);
  expect(() => decodeChannelConfig('null')).toThrow(/not valid/);
});

/* Hostile bytes. */

const decoders = {
  transaction: decodeTransaction,
  record: decodeRecord,
  entry: decodeEntry,
  batch: decodeBatch,
  identity: identityFromBytes,
};

const someTransaction: Transaction = {
  channel: 'payments',
  contract: 'bank',
  contractVersion: '',
  functionName: 'transfer',
  args: [Buffer.from('alice'), Buffer.from('bob'), Buffer.from('12.345')],
  nonce: Buffer.alloc(limits.nonceBytes, 7),
  timestampMs: 1_700_000_000_000,
};
const someRecord: CommitRecord = {
  type: 'call',
  txId: Buffer.alloc(32, 1),
  batch: 0,
  leaf: 3,
  transactionBytes: encodeTransaction(someTransaction),
  contractVersion: '1.0.0',
  sets: [
    {
      namespace: 'bank',
      reads: [
        { key: 'alice', version: positionOf(asAddress(12), 5) },
        { key: 'bob', version: undefined },
        { key: 'carol', version: { index: 2 } },
      ],
      ranges: [
        {
          start: 'a',
          end: 'b',
          exhausted: true,
          rows: [{ key: 'alice', version: positionOf(asAddress(12), 5) }],
        },
      ],
      writes: [
        { key: 'alice', value: '{"balance":"1"}' },
        { key: 'bob', value: undefined },
      ],
      bulkUpdates: [{ start: 'a', end: 'z', query: '{}', update: '{"$inc":{"x":1}}', rows: 7 }],
    },
  ],
  result: 'ok',
  event: { name: 'transferred', payload: '\u00ff\u0000' },
};
const someEntry: Entry = {
  kind: 'records',
  writer: 'executor-1',
  timestampMs: 1_700_000_000_123,
  identities: [identityBytes(signer.identity)],
  batches: [
    {
      batchId: Buffer.alloc(16, 2),
      creator: 0,
      mode: 'batch',
      size: 4,
      signatures: [Buffer.alloc(70, 3)],
      proof: [Buffer.alloc(32, 4), Buffer.alloc(32, 5)],
    },
  ],
  records: [{ index: 1, bytes: encodedRecord(someRecord) }],
};
const samples: Record<keyof typeof decoders, Buffer> = {
  transaction: encodeTransaction(someTransaction),
  record: encodedRecord(someRecord),
  entry: encodeEntry(someEntry),
  batch: signBatch(signer, 'payments', Buffer.alloc(16, 2), [
    { transaction: someTransaction, orderingKey: 'alice' },
  ]).bytes,
  identity: identityBytes(signer.identity),
};

test('no bytes crash a decoder: it returns or throws MALFORMED or LIMIT_EXCEEDED', () => {
  const decodesOrRefuses = (decode: (input: Uint8Array) => unknown, input: Uint8Array): void => {
    try {
      decode(input);
    } catch (error) {
      if (!isDaybookError(error, 'MALFORMED', 'LIMIT_EXCEEDED')) throw error;
    }
  };
  for (const [kind, decode] of Object.entries(decoders)) {
    const sample = samples[kind as keyof typeof decoders];
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.array(fc.tuple(fc.nat(sample.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.nat(sample.length),
        (noise, changes, cut) => {
          decodesOrRefuses(decode, noise);
          const changed = Buffer.from(sample);
          for (const [at, value] of changes) changed[at] = value;
          decodesOrRefuses(decode, changed);
          decodesOrRefuses(decode, changed.subarray(0, cut));
        },
      ),
      { numRuns: 500 },
    );
    for (let cut = 0; cut < sample.length; cut++) {
      expect(() => decode(sample.subarray(0, cut)), `${kind} cut at ${cut}`).toThrow();
    }
    expect(() => decode(Buffer.concat([sample, Buffer.of(0)])), kind).toThrow(/after the end/);
  }
});

test('limits are enforced where values are made, naming the limit', () => {
  const over = (limit: string, make: () => unknown): void => {
    try {
      make();
      expect.unreachable(limit);
    } catch (error) {
      expect(isDaybookError(error, 'LIMIT_EXCEEDED') && error.details.limit).toBe(limit);
    }
  };
  const long = 'x'.repeat(200);
  const [set] = someRecord.sets;
  over('nameBytesMax', () => encodeTransaction({ ...someTransaction, contract: long }));
  over('argumentsMax', () =>
    encodeTransaction({ ...someTransaction, args: Array(257).fill(Buffer.of(1)) }),
  );
  over('keyBytesMax', () =>
    encodedRecord({
      ...someRecord,
      sets: [{ ...set, writes: [{ key: 'k'.repeat(1025), value: '' }] } as never],
    }),
  );
  over('batchTransactionsMax', () =>
    signBatch(signer, 'c', Buffer.alloc(16), Array(1001).fill({ transaction: someTransaction })),
  );
});

/* Golden bytes: they change only together with a format version. */

test('golden vectors', () => {
  const file = new URL('../../test/vectors/model-v1.json', import.meta.url);
  const now = Object.fromEntries(
    Object.entries(samples).map(([kind, value]) => [kind, value.toString('hex')]),
  );
  expect(now).toEqual(JSON.parse(readFileSync(file, 'utf8')));
});
