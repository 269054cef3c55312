import { isDeepStrictEqual } from 'node:util';
import {
  asBuffer,
  type Bytestring,
  bytestringOf,
  bytestringOfText,
  textOf,
} from '../base/index.ts';
import type { LogEntry } from '../log/index.ts';
import {
  type Address,
  type Batch,
  type BatchItem,
  bulkRuleDefaults,
  bundleKey,
  type ChannelConfig,
  type CommitRecord,
  type ConfigEntry,
  type ContractDefinition,
  configSigningBytes,
  contractOfDefinitionKey,
  decodeBundle,
  decodeChannelConfig,
  decodeDefinition,
  definitionKey,
  deployFunction,
  encodeBundle,
  fabricDefinition,
  firstWord,
  hasRows,
  IdentityVerifier,
  identityFromBytes,
  lifecycleNamespace,
  mayDeclareIndexes,
  type NamespaceSet,
  namespaceEnd,
  positionOf,
  type RecordsEntry,
  sha256Hex,
  splitStateKey,
  stateKey,
  type Transaction,
  type VerdictCode,
  verdicts,
} from '../model/index.ts';
import {
  changesField,
  Overlay,
  PendingUpdate,
  PendingUpdates,
  parseUpdate,
  type RecordedUpdate,
  recordedUpdateOf,
  type State,
  type StateChange,
  type StateWrite,
} from '../state/index.ts';
import { BatchChecker, type ReadRecord } from './batch-check.ts';
import { type LogTime, timesBehindOthers, timesBehindRecords } from './log-time.ts';
import { allWith, entryOf, recordOf, transactionOf } from './read-entry.ts';
import { knownKey, type ReadContext, readsVerdict } from './reads-verdict.ts';
import { isWellFormed } from './record-shape.ts';
import type { AppliedEntry, AppliedRecord } from './replica.ts';

/** Namespace of the channel's configuration; one row, at {@link configKey}. */
export const configNamespace = '_config';
/** Key, within {@link configNamespace}, of the configuration's canonical JSON. */
export const configKey: Bytestring = 'channel';

/** What replay needs to know of the state. It is changed by nobody but replay's own changes. */
export type ReplayState = Pick<
  State,
  'get' | 'range' | 'version' | 'isCommitted' | 'logTimeMs' | 'horizonMs'
>;

/** What one log entry comes to. */
export interface Replayed {
  readonly applied: AppliedEntry;
  /** To be applied to the state before the next entry is replayed. */
  readonly change: StateChange;
}

/**
 * Replay: from a log entry and the state before it, what every record of it is worth and what the
 * entry does to the state. A pure function of the log prefix (invariant I3): no clock, and no
 * memory but what can be rebuilt from the state. Never throws, whatever the bytes.
 *
 * Order of the checks of a record, first failure wins: shape, creator certificate and signature,
 * transaction id, channel, lifetime, duplicate, access rights, endorsement, contract version, keys
 * read, ranges read. Records see the writes of valid ones before them in the same entry.
 */
export class Replay {
  readonly #state: ReplayState;
  readonly #checker = new BatchChecker();
  readonly #contracts = new Map<string, ContractDefinition>();
  #config: ChannelConfig | undefined;
  #verifier: IdentityVerifier | undefined;

  /** Takes up where `state` stands. */
  constructor(state: ReplayState) {
    this.#state = state;
    const config = state.get(stateKey(configNamespace, configKey));
    if (config !== undefined) this.#setConfig(decodeChannelConfig(textOf(config.value)));
    const start = stateKey(lifecycleNamespace, '');
    for (const row of state.range(start, namespaceEnd(lifecycleNamespace))) {
      this.#noteDefinition(row.key, row.value);
    }
  }

  get config(): ChannelConfig | undefined {
    return this.#config;
  }

  get verifier(): IdentityVerifier | undefined {
    return this.#verifier;
  }

  get contracts(): ReadonlyMap<string, ContractDefinition> {
    return this.#contracts;
  }

  /** See `Replica.trustBatch`. */
  trustBatch(batch: Batch): void {
    this.#checker.trust(batch);
  }

  /** Replays the next entry of the log. */
  next({ address, kind, bytes }: LogEntry): Replayed {
    const entry = kind === 'fill' ? undefined : entryOf(bytes);
    if (entry?.kind === 'records' && this.#config !== undefined && this.#verifier !== undefined) {
      return this.#records(address, entry, this.#config, this.#verifier);
    }
    const lifetimeMs = this.#config?.transactionLifetimeMs;
    const times = timesBehindOthers(this.#state, entry?.timestampMs ?? 0, lifetimeMs);
    if (entry?.kind === 'config') return this.#configEntry(address, entry, times);
    // Records before the channel is founded belong to no channel.
    const records = entry?.kind === 'records' ? allWith(address, entry, verdicts.wrongChannel) : [];
    return {
      applied: { address, entry, records, logTimeMs: times.logTimeMs },
      change: {
        ...changeOf(address, times, [], records),
        ...(entry?.kind === 'tick' ? { endsBlock: true } : {}),
      },
    };
  }

  #records(
    address: Address,
    entry: RecordsEntry,
    config: ChannelConfig,
    verifier: IdentityVerifier,
  ): Replayed {
    const reads = this.#read(entry);
    const signers = this.#signers(entry, reads, config.channel, verifier);
    const { logTimeMs, horizonMs } = timesBehindRecords(
      this.#state,
      entry.timestampMs,
      newestSigned(reads, signers),
      config.transactionLifetimeMs,
    );
    const local = new Overlay(this.#state);
    const pending = new PendingUpdates();
    const view = pending.view(local);
    const bulkUpdates: RecordedUpdate[] = [];
    const heavyRowsMin = (config.bulk ?? bulkRuleDefaults).heavyRowsMin;
    const writes: StateWrite[] = [];
    const records = new Array<AppliedRecord>(reads.length);
    const timestampsMs = new Array<number>(reads.length);
    const context: Context = {
      address,
      entry,
      config,
      logTimeMs,
      horizonMs,
      view,
      records,
      committed: new Set(),
      keys: [],
    };
    for (let place = 0; place < reads.length; place++) {
      const read = reads[place] as ReadRecord;
      const { record, transaction } = read;
      const position = positionOf(address, read.index);
      const timestampMs = transaction?.timestampMs ?? 0;
      const verdict = this.#verdict(context, read, signers[place]);
      if (verdict === verdicts.valid) {
        context.committed.add(firstWord(record.txId));
        if (read.trusted !== undefined) this.#checker.tookEffect(read.trusted);
        // Rows take a record's bulk update first, then its writes: both give the record's version.
        const bulk = recordedUpdateOf(
          record.sets,
          { position, txId: record.txId, timestampMs },
          heavyRowsMin,
        );
        if (bulk !== undefined) {
          bulkUpdates.push(bulk);
          pending.add(new PendingUpdate(bulk));
        }
        let at = 0;
        for (const set of record.sets) {
          const keysRead = at;
          at += set.reads.length;
          for (const { key, value } of set.writes) {
            const whole =
              knownKey(set, key, context.keys, keysRead) ?? stateKey(set.namespace, key);
            const write = { key: whole, value, version: position, head: 0 };
            writes.push(write);
            local.set(write);
            if (set.namespace === lifecycleNamespace && value !== undefined) {
              this.#noteDefinition(write.key, value);
            }
          }
        }
      }
      records[place] = { position, record, verdict };
      timestampsMs[place] = timestampMs;
    }
    return {
      applied: { address, entry, records, logTimeMs },
      change: { address, writes, bulkUpdates, records, timestampsMs, logTimeMs, horizonMs },
    };
  }

  /** Decodes the records that can be decoded. */
  #read(entry: RecordsEntry): ReadRecord[] {
    const reads: ReadRecord[] = [];
    const trusted = entry.batches.map((proof) => this.#checker.trusted(proof));
    const itemAt = (batch: number, leaf: number): BatchItem | undefined =>
      trusted[batch]?.batch.items[leaf];
    for (const { index, bytes } of entry.records) {
      const record = recordOf(bytes, itemAt);
      if (record === undefined) continue;
      const { txId, transactionBytes } = record;
      const item = itemAt(record.batch, record.leaf);
      // The record holds the batch's own fields, and not views of the entry: it has the same bytes.
      if (item !== undefined && item.txId === txId && item.bytes === transactionBytes) {
        const { transaction } = item;
        reads.push({ record, index, transaction, trusted: trusted[record.batch] });
      } else {
        const transaction = transactionOf(transactionBytes);
        reads.push({ record, index, transaction, trusted: undefined });
      }
    }
    return reads;
  }

  /** Per record, who signed it; `undefined` when nobody did. */
  #signers(
    entry: RecordsEntry,
    reads: readonly ReadRecord[],
    channel: string,
    verifier: IdentityVerifier,
  ): (BatchSigner | undefined)[] {
    const signers: (BatchSigner | undefined)[] = new Array(reads.length).fill(undefined);
    const members: number[][] = entry.batches.map(() => []);
    reads.forEach(({ record }, at) => {
      members[record.batch]?.push(at);
    });
    entry.batches.forEach((proof, number) => {
      const own = members[number] as number[];
      if (own.length === 0) return;
      const creatorBytes = entry.identities[proof.creator] as Uint8Array;
      const ownReads = own.map((at) => reads[at] as ReadRecord);
      const checked = this.#checker.check(channel, proof, entry.identities, ownReads, verifier);
      if (checked === undefined) return;
      const { mspId, endorserMspId } = checked;
      const signer = { creatorBytes, mspId, endorserMspId };
      own.forEach((at, place) => {
        if (checked.holds[place]) signers[at] = signer;
      });
    });
    return signers;
  }

  #verdict(context: Context, read: ReadRecord, signer: BatchSigner | undefined): VerdictCode {
    const { record, transaction } = read;
    const { config, entry } = context;
    if (transaction === undefined || !isWellFormed(record)) return verdicts.invalidTransaction;
    if (record.batch >= entry.batches.length) return verdicts.invalidTransaction;
    if (signer === undefined) return verdicts.badCreatorSignature;
    if (!this.#checker.hasRightId(read, transaction, signer.creatorBytes)) {
      return verdicts.badTransactionId;
    }
    if (transaction.channel !== config.channel) return verdicts.wrongChannel;
    const { timestampMs } = transaction;
    if (
      timestampMs < context.horizonMs ||
      timestampMs > context.logTimeMs + config.transactionLifetimeMs
    ) {
      return verdicts.expired;
    }
    if (isRepeated(context, record) || this.#state.isCommitted(record.txId)) {
      return verdicts.duplicateTransactionId;
    }
    const allowed = record.type === 'deploy' ? config.access.deploy : config.access.submit;
    if (!allowed.includes(signer.mspId)) {
      return verdicts.badCreatorSignature;
    }
    // The policy of a chain's configuration blocks: one member of those who may do it themselves.
    if (signer.endorserMspId !== undefined && !allowed.includes(signer.endorserMspId)) {
      return verdicts.endorsementPolicy;
    }
    const contract =
      record.type === 'deploy'
        ? this.#deployVerdict(record, transaction)
        : this.#callVerdict(record, transaction);
    return contract === verdicts.valid ? readsVerdict(context, record.sets) : contract;
  }

  #callVerdict(record: CommitRecord, transaction: Transaction): VerdictCode {
    const { contract, contractVersion } = transaction;
    const deployed = this.#contracts.get(contract)?.version;
    const fits =
      deployed !== undefined &&
      deployed === record.contractVersion &&
      (contractVersion === '' || contractVersion === deployed);
    if (!fits) return verdicts.contractVersion;
    for (const { namespace, writes, bulkUpdates } of record.sets) {
      // A call may reach other contracts through its own, but never Daybook's namespaces.
      if (writes.length === 0 && bulkUpdates.length === 0) continue;
      const definition = this.#contracts.get(namespace);
      if (definition === undefined || touchesIndex(definition, bulkUpdates)) {
        return verdicts.invalidTransaction;
      }
    }
    return verdicts.valid;
  }

  /** A deploy record writes what the signed bundle says, and nothing else. */
  #deployVerdict(record: CommitRecord, transaction: Transaction): VerdictCode {
    const [bundleBytes] = transaction.args;
    const [set] = record.sets;
    if (
      transaction.contract !== lifecycleNamespace ||
      transaction.functionName !== deployFunction ||
      bundleBytes === undefined ||
      set?.namespace !== lifecycleNamespace ||
      record.sets.length !== 1
    ) {
      return verdicts.invalidTransaction;
    }
    try {
      const bundle = decodeBundle(bytestringOf(bundleBytes));
      const rows = new Map(set.writes.map(({ key, value }) => [key, value]));
      const bundleRow = rows.get(bytestringOfText(bundleKey(bundle.name)));
      const definitionRow = rows.get(bytestringOfText(definitionKey(bundle.name)));
      if (bundleRow !== encodeBundle(bundle) || definitionRow === undefined) {
        return verdicts.invalidTransaction;
      }
      const definition = decodeDefinition(definitionRow);
      const fabricRows = fabricDefinition(bundle.name, bundle.version, definition.sequence);
      if (rows.size !== 2 + fabricRows.length || !hasRows(set.writes, fabricRows)) {
        return verdicts.invalidTransaction;
      }
      const previous = this.#contracts.get(bundle.name);
      if (definition.sequence !== (previous?.sequence ?? 0) + 1) return verdicts.readConflict;
      const fits =
        definition.version === bundle.version &&
        isDeepStrictEqual(definition.options, bundle.options) &&
        mayDeclareIndexes(previous, bundle.options.indexes) &&
        definition.bundleHash === sha256Hex(Buffer.from(bundleRow, 'latin1'));
      return fits ? verdicts.valid : verdicts.invalidTransaction;
    } catch {
      return verdicts.invalidTransaction;
    }
  }

  #configEntry(address: Address, entry: ConfigEntry, times: LogTime): Replayed {
    const config = this.#acceptedConfig(entry);
    const writes: StateWrite[] = [];
    if (config !== undefined) {
      const key = stateKey(configNamespace, configKey);
      const value = bytestringOfText(entry.config);
      writes.push({ key, value, version: positionOf(address, 0) });
    }
    const configVerdict = config === undefined ? verdicts.badCreatorSignature : verdicts.valid;
    const change = { ...changeOf(address, times, writes, []), configVerdict };
    const { logTimeMs } = times;
    return { applied: { address, entry, records: [], configVerdict, logTimeMs }, change };
  }

  /** Installs the entry's configuration if it may take effect. */
  #acceptedConfig(entry: ConfigEntry): ChannelConfig | undefined {
    try {
      const config = decodeChannelConfig(entry.config);
      const current = this.#config;
      if (current === undefined || this.#verifier === undefined) {
        if (config.sequence !== 0) return undefined;
      } else {
        if (config.channel !== current.channel) return undefined;
        if (config.sequence !== current.sequence + 1) return undefined;
        const creator = identityFromBytes(entry.creator);
        if (!current.access.administer.includes(creator.mspId)) return undefined;
        this.#verifier.checkIdentity(creator, entry.timestampMs);
        const message = configSigningBytes(entry.config);
        this.#verifier.checkSignature(creator, message, entry.signature);
      }
      this.#setConfig(config);
      return config;
    } catch {
      // Not a configuration, or not signed by an administrator.
      return undefined;
    }
  }

  #setConfig(config: ChannelConfig): void {
    this.#verifier = new IdentityVerifier(config.msps);
    this.#config = config;
  }

  #noteDefinition(key: Bytestring, value: Bytestring): void {
    const contract = contractOfDefinitionKey(splitStateKey(key).key);
    if (contract !== undefined) this.#contracts.set(contract, decodeDefinition(value));
  }
}

/** What an entry changes that has no records which count. */
function changeOf(
  address: Address,
  times: LogTime,
  writes: readonly StateWrite[],
  records: readonly AppliedRecord[],
): StateChange {
  return { address, writes, records, timestampsMs: records.map(() => 0), ...times };
}

/** The greatest timestamp of the transactions that their creators signed. */
function newestSigned(
  reads: readonly ReadRecord[],
  signers: readonly (BatchSigner | undefined)[],
): number | undefined {
  let newestMs: number | undefined;
  for (let at = 0; at < reads.length; at++) {
    const timestampMs = reads[at]?.transaction?.timestampMs;
    if (timestampMs === undefined || signers[at] === undefined) continue;
    if (newestMs === undefined || timestampMs > newestMs) newestMs = timestampMs;
  }
  return newestMs;
}

interface BatchSigner {
  readonly creatorBytes: Uint8Array;
  readonly mspId: string;
  /** Of a transaction that is signed singly; `''` when its endorsement does not hold. */
  readonly endorserMspId: string | undefined;
}

interface Context extends ReadContext {
  readonly entry: RecordsEntry;
  readonly config: ChannelConfig;
  readonly logTimeMs: number;
  readonly horizonMs: number;
  /** The entry's records before this one. */
  readonly records: readonly AppliedRecord[];
  /** First words of the ids of those that took effect. */
  readonly committed: Set<number>;
}

/** Whether the transaction took effect earlier in the entry. */
function isRepeated({ records, committed }: Context, { txId }: CommitRecord): boolean {
  return (
    committed.has(firstWord(txId)) &&
    records.some(
      ({ record, verdict }) => verdict === verdicts.valid && asBuffer(record.txId).equals(txId),
    )
  );
}

/** Index entries are keys that a bulk update does not carry. */
function touchesIndex(
  { options }: ContractDefinition,
  bulkUpdates: NamespaceSet['bulkUpdates'],
): boolean {
  if (bulkUpdates.length === 0) return false;
  const indexed = Object.values(options.indexes ?? {}).flat();
  return bulkUpdates.some(({ update }) => changesField(parseUpdate(update).paths, indexed));
}
