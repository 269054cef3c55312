import { isUtf8 } from 'node:buffer';
import { bytesOf, DaybookError } from '../../base/index.ts';
import type { Position } from '../position.ts';
import type { CommitRecord } from '../record.ts';
import { type Transaction, transactionId } from '../transaction.ts';
import { ProtoMessage } from './proto-reader.ts';
import {
  type BlockVersion,
  type EndorserTransaction,
  readEndorserTransaction,
} from './read-envelope.ts';
import { type EnvelopeSource, EnvelopeWriter } from './write-envelope.ts';

/*
 * Transactions that are signed singly (mode `single`), as Fabric's are: a node executes the call and
 * endorses what came out; then the client signs all of it, as one envelope's payload. What the
 * signatures cover says versions as (block, transaction), so these go into the log with them; the
 * rest of the signed bytes is made from the record.
 */

/** What a node that executed a call says about it. */
export interface Endorsement {
  /** Serialised identity of the node. */
  readonly endorser: Uint8Array;
  /** Over {@link endorsementMessage}. */
  readonly signature: Uint8Array;
  /** Of {@link positionsRead}, in that order. */
  readonly versions: readonly BlockVersion[];
}

/** What an endorser signs: `ProposalResponsePayload` and its own serialised identity. */
export function endorsementMessage(responsePayload: Uint8Array, endorser: Uint8Array): Buffer {
  return Buffer.concat([responsePayload, endorser]);
}

/**
 * The positions whose versions a record read, each once, in the order in which they stand in it.
 *
 * @returns `undefined` when a version is none of the log before the record's entry.
 */
export function positionsRead({ sets }: CommitRecord): Position[] | undefined {
  const positions = new Set<Position>();
  for (const { reads, ranges } of sets) {
    for (const rows of [reads, ...ranges.map((range) => range.rows)]) {
      for (const { version } of rows) {
        if (typeof version === 'object') return undefined;
        if (version !== undefined) positions.add(version);
      }
    }
  }
  return [...positions];
}

/**
 * What an `EnvelopeWriter` makes the signed bytes of.
 *
 * @param endorsement - its signature may be empty as long as it is not made.
 * @returns `undefined` when the versions are not those of the record.
 */
export function endorsedSource(
  record: CommitRecord,
  transaction: Transaction,
  creator: Uint8Array,
  endorsement: Endorsement,
  signature: Uint8Array = new Uint8Array(),
): EnvelopeSource | undefined {
  const positions = positionsRead(record);
  const { versions } = endorsement;
  if (positions?.length !== versions.length) return undefined;
  const versionOf = new Map(positions.map((position, at) => [position, versions[at]]));
  return {
    record,
    transaction,
    creator,
    signature,
    mode: 'single',
    batchId: new Uint8Array(),
    batchSize: 1,
    path: [],
    executor: '',
    endorsement,
    versionOf: (version) => versionOf.get(version as Position) as BlockVersion,
  };
}

/**
 * Why a record cannot be written as Fabric writes transactions, or `undefined` when it can. Names and
 * keys must be UTF-8, since Fabric's are protobuf strings; a bulk update has no form in Fabric.
 */
export function notEndorsable(record: CommitRecord, transaction: Transaction): string | undefined {
  const { channel, contract, contractVersion, functionName } = transaction;
  if (`${channel}${contract}${contractVersion}${functionName}`.includes('\ufffd')) {
    return 'a name is not UTF-8';
  }
  for (const { bulkUpdates, reads, ranges, writes } of record.sets) {
    if (bulkUpdates.length > 0) return 'it makes a bulk update';
    const texts = [
      ...reads.map(({ key }) => key),
      ...writes.map(({ key }) => key),
      ...ranges.flatMap(({ start, end, rows }) => [start, end, ...rows.map(({ key }) => key)]),
    ];
    if (!texts.every((text) => isUtf8(bytesOf(text)))) return 'a key is not UTF-8';
  }
  return positionsRead(record) === undefined ? 'it read what is not in the log yet' : undefined;
}

const proposals = new EnvelopeWriter();

/**
 * Checks, before a client signs a payload, that it is for the call that the client asked for.
 *
 * @returns what the call did.
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED`
 */
export function checkPayload(
  payload: Uint8Array,
  transaction: Transaction,
  creator: Uint8Array,
): EndorserTransaction {
  const message = new ProtoMessage(payload, 'payload');
  const header = message.message(1, 'header');
  const done = readEndorserTransaction(message.bytes(2));
  const txId = transactionId(transaction.nonce, creator).toString('hex');
  const asked = proposals.proposal(transaction, creator, txId);
  const same =
    asked.channelHeader.equals(header.bytes(1)) &&
    asked.signatureHeader.equals(header.bytes(2)) &&
    asked.chaincodeProposalPayload.equals(done.chaincodeProposalPayload);
  if (same) return done;
  throw new DaybookError(
    'PROOF_INVALID',
    'what is to be signed is not the call that was asked for',
    {
      details: { txId },
    },
  );
}
