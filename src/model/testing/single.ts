import {
  type BatchProof,
  type BlockVersion,
  decodeRecord,
  decodeTransaction,
  EnvelopeWriter,
  endorsedSource,
  endorsementMessage,
  identityBytes,
  type Position,
  positionsRead,
  type Signer,
} from '../index.ts';

/** What {@link singleProof} is made from. */
export interface SingleParts {
  readonly recordBytes: Uint8Array;
  readonly batchId: Uint8Array;
  /** Index among the entry's identities. */
  readonly creator: number;
  readonly endorser: number;
  readonly client: Signer;
  readonly node: Signer;
  readonly placeOf: (position: Position) => BlockVersion;
}

/** What proves a record that is signed singly: endorsed by a node, then signed by its client. */
export function singleProof(parts: SingleParts): BatchProof {
  const writer = new EnvelopeWriter();
  const record = decodeRecord(parts.recordBytes);
  const transaction = decodeTransaction(record.transactionBytes);
  const creator = identityBytes(parts.client.identity);
  const endorser = identityBytes(parts.node.identity);
  const versions = (positionsRead(record) ?? []).map(parts.placeOf);
  const message = (signature: Uint8Array, make: 'payload' | 'responsePayload'): Buffer => {
    const endorsement = { endorser, signature, versions };
    const source = endorsedSource(record, transaction, creator, endorsement);
    if (source === undefined) throw new Error('not as many versions as positions');
    return Buffer.from(writer[make](source));
  };
  const response = message(new Uint8Array(), 'responsePayload');
  const signature = parts.node.sign(endorsementMessage(response, endorser));
  return {
    batchId: parts.batchId,
    creator: parts.creator,
    mode: 'single',
    size: 1,
    signatures: [parts.client.sign(message(signature, 'payload'))],
    proof: [],
    endorsement: { endorser: parts.endorser, signature, versions },
  };
}
