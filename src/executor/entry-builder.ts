import { type Bytestring, bytestringOf } from '../base/index.ts';
import { type BatchProof, encodeRecordHead, encodeRecordsEntry } from '../model/index.ts';
import { type AdmittedBatch, headOf, type Job } from './job.ts';

/** One record as it goes into an entry. */
export interface EntryRecord {
  readonly index: number;
  /** The bytes of the record's body. */
  readonly body: Buffer;
  readonly job: Pick<Job, 'batch' | 'item' | 'leaf'>;
}

/**
 * The bytes of an entry of records: tables of the identities and batches behind them, and for every
 * batch what proves that its creator signed the records in this entry.
 *
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function buildEntry(
  writer: string,
  timestampMs: number,
  records: readonly EntryRecord[],
): Buffer {
  const identities: Uint8Array[] = [];
  const identityOf = new Map<number, number>();
  const endorserOf = new Map<Bytestring, number>();
  const parts = new Map<AdmittedBatch, { index: number; leaves: number[] }>();
  let last: AdmittedBatch | undefined;
  let part: { index: number; leaves: number[] } | undefined;
  const batchOf: number[] = [];
  for (const { job } of records) {
    const { batch, leaf } = job;
    // Records of one batch mostly stand together.
    if (batch !== last) part = parts.get(batch);
    last = batch;
    if (part === undefined) {
      part = { index: parts.size, leaves: [] };
      parts.set(batch, part);
      if (!identityOf.has(batch.creator)) {
        identityOf.set(batch.creator, identities.length);
        identities.push(batch.batch.creatorBytes);
      }
    }
    part.leaves.push(leaf);
    batchOf.push(part.index);
  }
  const batches: BatchProof[] = [];
  for (const [{ batch, creator }, { leaves }] of parts) {
    const { batchId, mode, items } = batch;
    const shared = {
      batchId,
      creator: identityOf.get(creator) as number,
      mode,
      size: items.length,
    };
    const endorsed = items[0]?.endorsed;
    if (mode === 'batch' || endorsed === undefined) {
      batches.push({ ...shared, signatures: [batch.signature], proof: proofOf(batch, leaves) });
      continue;
    }
    const { endorser: endorserBytes, ...endorsement } = endorsed.endorsement;
    const key = bytestringOf(endorserBytes);
    const endorser = endorserOf.get(key) ?? identities.push(endorserBytes) - 1;
    endorserOf.set(key, endorser);
    batches.push({
      ...shared,
      signatures: [endorsed.signature],
      proof: [],
      endorsement: { ...endorsement, endorser },
    });
  }
  const entry = { writer, timestampMs, identities, batches };
  return encodeRecordsEntry(entry, records, ({ job, body }, bytes, at) => {
    encodeRecordHead(headOf(job, batchOf[at] as number), bytes);
    bytes.raw(body);
  });
}

function proofOf({ tree }: AdmittedBatch['batch'], leaves: readonly number[]): Buffer[] {
  return tree.subsetProof([...leaves].sort((left, right) => left - right));
}
