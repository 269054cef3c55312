import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { asBuffer, type Bytestring, ByteWriter, bytesOf } from '../../base/index.ts';
import {
  type Batch,
  bundleKey,
  type ChannelConfig,
  type ContractBundle,
  channelConfigDefaults,
  configSigningBytes,
  decodeBatch,
  definitionKey,
  deployFunction,
  encodeBundle,
  encodeChannelConfig,
  encodeDefinition,
  encodeEntry,
  encodeRecord,
  fabricDefinition,
  identityBytes,
  lifecycleNamespace,
  type MspConfig,
  type NamespaceSet,
  type RecordsEntry,
  type RecordType,
  type Signer,
  sha256Hex,
  signBatch,
  signerFromPem,
} from '../../model/index.ts';
import { singleProof } from '../../model/testing/single.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** An MSP with one member, for tests. */
export async function testMember(mspId: string): Promise<{ msp: MspConfig; signer: Signer }> {
  x509.cryptoProvider.set(webcrypto as never);
  const rootKeys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const common = {
    signingAlgorithm: algorithm,
    notBefore: new Date('1970-01-01'),
    notAfter: new Date('2100-01-01'),
  };
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${mspId} root`,
    keys: rootKeys,
    ...common,
  });
  const member = await x509.X509CertificateGenerator.create({
    subject: 'CN=member',
    issuer: root.subject,
    publicKey: keys.publicKey,
    signingKey: rootKeys.privateKey,
    ...common,
  });
  const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  const identity = { mspId, certificate: member.toString('pem') };
  return {
    msp: { mspId, rootCertificates: [root.toString('pem')] },
    signer: signerFromPem(identity, x509.PemConverter.encode(key, 'PRIVATE KEY')),
  };
}

/** What one record of a test does. */
export interface TestRecord {
  readonly sets: readonly (Partial<NamespaceSet> & { readonly namespace: string })[];
  readonly timestampMs: number;
  readonly type?: RecordType;
  readonly contract?: string;
  readonly channel?: string;
  readonly contractVersion?: string;
  readonly functionName?: string;
  readonly args?: readonly Uint8Array[];
  readonly nonce?: Uint8Array;
  /** Index in the entry; default: one after the one before. */
  readonly index?: number;
  /** Leave it out of the entry, though it is signed with the others. */
  readonly absent?: boolean;
}

/** The configuration of a test's channel. */
export function testConfig(
  msps: readonly MspConfig[],
  rest?: Partial<ChannelConfig>,
): ChannelConfig {
  const names = msps.map(({ mspId }) => mspId);
  return {
    ...channelConfigDefaults,
    channel: 'bank',
    msps,
    access: { submit: names, deploy: names, administer: names },
    ...rest,
  };
}

/** Bytes of a config entry; without a signer it founds the channel. */
export function configEntry(config: ChannelConfig, timestampMs: number, signer?: Signer): Buffer {
  const json = encodeChannelConfig(config);
  return encodeEntry({
    kind: 'config',
    writer: 'test',
    timestampMs,
    config: json,
    creator: signer === undefined ? new Uint8Array() : identityBytes(signer.identity),
    signature: signer === undefined ? new Uint8Array() : signer.sign(configSigningBytes(json)),
  });
}

/** One signed batch and its records' bytes. */
export interface TestBatch {
  readonly batch: Batch;
  readonly records: readonly { readonly index: number; readonly bytes: Uint8Array }[];
  readonly leaves: readonly number[];
}

/** Signs records as one batch. */
export function testBatch(
  signer: Signer,
  records: readonly TestRecord[],
  options: { number?: number; start?: number } = {},
): TestBatch {
  const calls = records.map((record) => ({
    transaction: {
      channel: record.channel ?? 'bank',
      contract: record.contract ?? 'money',
      contractVersion: '',
      functionName: record.functionName ?? 'move',
      args: record.args ?? [],
      nonce: record.nonce ?? randomBytes(24),
      timestampMs: record.timestampMs,
    },
  }));
  const channel = calls[0]?.transaction.channel ?? 'bank';
  const batchId = randomBytes(16);
  const batch = decodeBatch(signBatch(signer, channel, batchId, calls).bytes);
  const writer = new ByteWriter();
  const encoded: { index: number; bytes: Uint8Array }[] = [];
  const leaves: number[] = [];
  let index = options.start ?? 0;
  records.forEach((record, leaf) => {
    const item = batch.items[leaf];
    if (item === undefined || record.absent) return;
    writer.reset();
    encodeRecord(
      {
        type: record.type ?? 'call',
        txId: item.txId,
        batch: options.number ?? 0,
        leaf,
        transactionBytes: item.bytes,
        contractVersion: record.contractVersion ?? '1',
        sets: record.sets.map((set) => ({
          reads: [],
          ranges: [],
          writes: [],
          bulkUpdates: [],
          ...set,
        })),
        result: '',
        event: undefined,
      },
      writer,
    );
    index = record.index ?? index;
    encoded.push({ index: index++, bytes: writer.finish() });
    leaves.push(leaf);
  });
  return { batch, records: encoded, leaves };
}

/** Puts batches into one entry; their `number`s must be their places in the list. */
export function recordsEntry(batches: readonly TestBatch[], timestampMs: number): RecordsEntry {
  const creators: Buffer[] = [];
  const creatorOf = (bytes: Uint8Array): number => {
    const known = creators.findIndex((creator) => creator.equals(bytes));
    return known >= 0 ? known : creators.push(asBuffer(bytes)) - 1;
  };
  const proofs = batches.map(({ batch, leaves }) => {
    return {
      batchId: batch.batchId,
      creator: creatorOf(batch.creatorBytes),
      mode: batch.mode,
      size: batch.items.length,
      signatures: [batch.signature],
      proof: leaves.length > 0 ? batch.tree.subsetProof(leaves) : [],
    };
  });
  const records = batches.flatMap((batch) => batch.records);
  records.sort((left, right) => left.index - right.index);
  return {
    kind: 'records',
    writer: 'test',
    timestampMs,
    identities: creators,
    batches: proofs,
    records,
  };
}

/** A record that deploys a contract without functions. */
export function deployRecord(
  name: string,
  version: string,
  sequence: number,
  timestampMs: number,
  indexes: Record<string, string[]> = {},
): TestRecord {
  const options = { readYourWrites: false, indexes };
  const bundle: ContractBundle = { name, version, source: '0', options };
  const bundleRow = encodeBundle(bundle);
  const bundleHash = sha256Hex(bytesOf(bundleRow));
  const definition = encodeDefinition({ version, sequence, bundleHash, options });
  const rows: [Bytestring, Bytestring][] = [
    [bundleKey(name), bundleRow],
    [definitionKey(name), definition],
    ...fabricDefinition(name, version, sequence).map(({ key, value }): [Bytestring, Bytestring] => [
      key,
      value,
    ]),
  ];
  return {
    type: 'deploy',
    contract: lifecycleNamespace,
    functionName: deployFunction,
    args: [bytesOf(bundleRow)],
    timestampMs,
    sets: [{ namespace: lifecycleNamespace, writes: rows.map(([key, value]) => ({ key, value })) }],
  };
}

/** Bytes of one batch as an entry of its own. */
export function entryOfRecords(
  signer: Signer,
  records: readonly TestRecord[],
  timestampMs: number,
): Buffer {
  return encodeEntry(recordsEntry([testBatch(signer, records)], timestampMs));
}

/** An entry of records that are signed singly: endorsed by `node`, then signed by `client`. */
export function singleEntry(
  client: Signer,
  node: Signer,
  records: readonly TestRecord[],
  timestampMs: number,
): RecordsEntry {
  const batches = records.map((record, number) =>
    testBatch(client, [record], { number, start: number }),
  );
  const made = batches.flatMap((batch) => batch.records);
  return {
    kind: 'records',
    writer: 'test',
    timestampMs,
    identities: [identityBytes(client.identity), identityBytes(node.identity)],
    batches: batches.map(({ batch }, number) =>
      singleProof({
        recordBytes: (made[number] as (typeof made)[number]).bytes,
        batchId: batch.batchId,
        creator: 0,
        endorser: 1,
        client,
        node,
        placeOf: () => ({ block: 1, transaction: 0 }),
      }),
    ),
    records: made,
  };
}
