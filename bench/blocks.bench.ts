import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { common, ledger, peer } from '@hyperledger/fabric-protos';
import { ByteWriter } from '../src/base/index.ts';
import {
  type BlockGenerator,
  decodeBlock,
  openBlockGenerator,
  verifyChain,
} from '../src/blocks/index.ts';
import { realIo } from '../src/io/index.ts';
import {
  asAddress,
  channelConfigDefaults,
  decodeBatch,
  decodeRecord,
  type EndorserTransaction,
  encodeChannelConfig,
  encodeRecord,
  type Position,
  positionOf,
  readEndorserTransaction,
  readEnvelopeHead,
  type Signer,
  signBatch,
} from '../src/model/index.ts';
import { DevelopmentCa } from '../src/node/dev-ca.ts';
import type { AppliedEntry } from '../src/replica/index.ts';

/** Settings of {@link blocksBench}. */
export interface BlocksBenchSettings {
  readonly keys: number;
  readonly transactions: number;
  /** Records per entry and per batch. */
  readonly group: number;
  /** Keys of the second run, which shows how small blocks get when calls read each other's writes. */
  readonly hotKeys: number;
  readonly hotTransactions: number;
}

export const blocksBenchDefaults: BlocksBenchSettings = {
  keys: 1_000_000,
  transactions: 100_000,
  group: 100,
  hotKeys: 10,
  hotTransactions: 5000,
};

/** The small mode, for the tests. */
export const blocksBenchSmall: BlocksBenchSettings = {
  keys: 2000,
  transactions: 1000,
  group: 50,
  hotKeys: 10,
  hotTransactions: 200,
};

/** CPU of the process in microseconds per transaction (2 reads, 2 writes) unless said. */
export interface BlocksBenchResult extends BlocksBenchSettings {
  readonly generatorUs: number;
  readonly transactionsPerSecond: number;
  readonly recordsPerBlock: number;
  readonly bytesPerTransaction: number;
  readonly verifyUs: number;
  /** One envelope read and written by the generated protobuf classes: the reference. */
  readonly libraryEnvelopeUs: number;
  readonly hotGeneratorUs: number;
  readonly hotRecordsPerBlock: number;
  /** The same hot load with `cutBeforeReads` off. */
  readonly hotDenseGeneratorUs: number;
  readonly hotDenseRecordsPerBlock: number;
}

/** Makes signed blocks from a ready log, over a large state and over a few hot keys. */
export async function blocksBench(settings: BlocksBenchSettings): Promise<BlocksBenchResult> {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-bench-'));
  try {
    const ca = await DevelopmentCa.create('Org1', Date.now());
    const { signer } = await ca.issue('bench');
    const run = async (name: string, keys: number, transactions: number, cut: boolean) => {
      const path = join(directory, name);
      const generator = await openBlockGenerator({ io: realIo(), directory: path, signer });
      const log = new BenchLog(ca, signer, keys, cut);
      await generator.push([log.founding()]);
      let cpu = 0;
      const groups = Math.ceil(transactions / settings.group);
      for (let number = 0; number < groups; number++) {
        const entry = log.group(settings.group);
        const before = cpuUs();
        await generator.push([entry]);
        cpu += cpuUs() - before;
      }
      await generator.push([log.tick()]);
      const { height, historySize } = generator.point;
      return {
        path,
        generator,
        us: cpu / (groups * settings.group),
        recordsPerBlock: (historySize - 1) / (height - 1),
      };
    };
    const large = await run('large', settings.keys, settings.transactions, true);
    const libraryEnvelopeUs = await measureLibrary(large.generator);
    const block = await large.generator.store.block(1);
    const bytesPerTransaction = block.length / decodeBlock(block).envelopes.length;
    await large.generator.close();
    const verifying = cpuUs();
    const report = await verifyChain(realIo().disk, join(large.path, 'blocks'));
    if (report.problem !== undefined) throw new Error(report.problem.what);
    const verifyUs = (cpuUs() - verifying) / report.records;
    const hot = await run('hot', settings.hotKeys, settings.hotTransactions, true);
    await hot.generator.close();
    const dense = await run('dense', settings.hotKeys, settings.hotTransactions, false);
    await dense.generator.close();
    return {
      ...settings,
      generatorUs: round(large.us),
      transactionsPerSecond: Math.round(1e6 / large.us),
      recordsPerBlock: round(large.recordsPerBlock),
      bytesPerTransaction: round(bytesPerTransaction),
      verifyUs: round(verifyUs),
      libraryEnvelopeUs: round(libraryEnvelopeUs),
      hotGeneratorUs: round(hot.us),
      hotRecordsPerBlock: round(hot.recordsPerBlock),
      hotDenseGeneratorUs: round(dense.us),
      hotDenseRecordsPerBlock: round(dense.recordsPerBlock),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What it would cost to write the nested messages of one envelope with the generated classes. */
async function measureLibrary(generator: BlockGenerator): Promise<number> {
  const [envelope] = decodeBlock(await generator.store.block(1)).envelopes;
  const head = readEnvelopeHead(envelope as Buffer);
  const source = readEndorserTransaction(head.data);
  const times = 2000;
  const started = cpuUs();
  for (let at = 0; at < times; at++) libraryEnvelope(head, source);
  return (cpuUs() - started) / times;
}

function libraryEnvelope(
  head: ReturnType<typeof readEnvelopeHead>,
  source: EndorserTransaction,
): Uint8Array {
  const results = new ledger.rwset.TxReadWriteSet();
  for (const set of source.sets) {
    const rows = new ledger.rwset.kvrwset.KVRWSet();
    for (const { key, version } of set.reads) {
      const read = new ledger.rwset.kvrwset.KVRead();
      read.setKey(key);
      if (version !== undefined) {
        const at = new ledger.rwset.kvrwset.Version();
        at.setBlockNum(version.block);
        at.setTxNum(version.transaction);
        read.setVersion(at);
      }
      rows.addReads(read);
    }
    for (const { key, value } of set.writes) {
      const write = new ledger.rwset.kvrwset.KVWrite();
      write.setKey(key);
      write.setValue(Buffer.from(value ?? '', 'latin1'));
      rows.addWrites(write);
    }
    const named = new ledger.rwset.NsReadWriteSet();
    named.setNamespace(set.namespace);
    named.setRwset(rows.serializeBinary());
    results.addNsRwset(named);
  }
  const action = new peer.ChaincodeAction();
  action.setResults(results.serializeBinary());
  const response = new peer.Response();
  response.setStatus(source.status);
  response.setPayload(source.result);
  action.setResponse(response);
  const answer = new peer.ProposalResponsePayload();
  answer.setProposalHash(source.proposalHash);
  answer.setExtension$(action.serializeBinary());
  const endorsed = new peer.ChaincodeEndorsedAction();
  endorsed.setProposalResponsePayload(answer.serializeBinary());
  const payload = new peer.ChaincodeActionPayload();
  payload.setChaincodeProposalPayload(source.chaincodeProposalPayload);
  payload.setAction(endorsed);
  const one = new peer.TransactionAction();
  one.setHeader(head.signatureHeader);
  one.setPayload(payload.serializeBinary());
  const transaction = new peer.Transaction();
  transaction.addActions(one);
  const header = new common.Header();
  header.setChannelHeader(head.channelHeader);
  header.setSignatureHeader(head.signatureHeader);
  const whole = new common.Payload();
  whole.setHeader(header);
  whole.setData(transaction.serializeBinary());
  const envelope = new common.Envelope();
  envelope.setPayload(whole.serializeBinary());
  envelope.setSignature(head.signature);
  return envelope.serializeBinary();
}

/** Makes entries as a replica would publish them, and keeps the versions. */
class BenchLog {
  readonly #ca: DevelopmentCa;
  readonly #signer: Signer;
  readonly #cutBeforeReads: boolean;
  readonly #versions: (Position | undefined)[];
  readonly #writer = new ByteWriter();
  #address = 0;
  #nonce = 0;

  constructor(ca: DevelopmentCa, signer: Signer, keys: number, cutBeforeReads: boolean) {
    this.#ca = ca;
    this.#signer = signer;
    this.#versions = new Array(keys).fill(undefined);
    this.#cutBeforeReads = cutBeforeReads;
  }

  founding(): AppliedEntry {
    const access = { submit: ['Org1'], deploy: ['Org1'], administer: ['Org1'] };
    const config = encodeChannelConfig({
      ...channelConfigDefaults,
      channel: 'bench',
      msps: [this.#ca.mspConfig],
      access,
      blocks: { recordsMax: 1000, bytesMax: 4 << 20, cutBeforeReads: this.#cutBeforeReads },
    });
    const none = new Uint8Array();
    const timestampMs = Date.now();
    const entry = {
      kind: 'config',
      writer: 'bench',
      timestampMs,
      config,
      creator: none,
      signature: none,
    } as const;
    const address = asAddress(this.#address++);
    return { address, entry, records: [], configVerdict: 0, logTimeMs: timestampMs };
  }

  tick(): AppliedEntry {
    const timestampMs = Date.now();
    const entry = { kind: 'tick', writer: 'bench', timestampMs } as const;
    return { address: asAddress(this.#address++), entry, records: [], logTimeMs: timestampMs };
  }

  group(count: number): AppliedEntry {
    const address = asAddress(this.#address++);
    const timestampMs = Date.now();
    const calls = Array.from({ length: count }, () => {
      const nonce = Buffer.alloc(24);
      nonce.writeUInt32BE(this.#nonce++);
      const args = [Buffer.from('account-00000001'), Buffer.from('account-00000002')];
      const call = {
        channel: 'bench',
        contract: 'bench',
        contractVersion: '',
        functionName: 'move',
      };
      return { transaction: { ...call, args, nonce, timestampMs } };
    });
    const batchId = Buffer.alloc(16, address % 251);
    const batch = decodeBatch(signBatch(this.#signer, 'bench', batchId, calls).bytes);
    const records = batch.items.map((item, index) => {
      const picked = new Set<number>();
      while (picked.size < 2) picked.add(Math.floor(Math.random() * this.#versions.length));
      const rows = [...picked].sort((left, right) => left - right);
      const keyOf = (at: number): string => `account-${String(at).padStart(8, '0')}`;
      this.#writer.reset();
      const set = {
        namespace: 'bench',
        reads: rows.map((at) => ({ key: keyOf(at), version: this.#versions[at] })),
        ranges: [],
        writes: rows.map((at) => ({
          key: keyOf(at),
          value: `{"owner":"somebody","balance":${index}}`,
        })),
        bulkUpdates: [],
      };
      encodeRecord(
        {
          type: 'call',
          txId: item.txId,
          batch: 0,
          leaf: index,
          transactionBytes: item.bytes,
          contractVersion: '1',
          sets: [set],
          result: 'moved',
          event: undefined,
        },
        this.#writer,
      );
      const position = positionOf(address, index);
      for (const at of rows) this.#versions[at] = position;
      return { index, bytes: this.#writer.finish() };
    });
    const proof = {
      batchId,
      creator: 0,
      mode: 'batch',
      size: count,
      signatures: [batch.signature],
      proof: [],
    } as const;
    const entry = {
      kind: 'records',
      writer: 'bench',
      timestampMs,
      identities: [batch.creatorBytes],
      batches: [proof],
      records,
    } as const;
    return {
      address,
      entry,
      records: records.map(({ index, bytes }) => ({
        position: positionOf(address, index),
        record: decodeRecord(bytes),
        verdict: 0,
      })),
      logTimeMs: timestampMs,
    };
  }
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
