import { verify, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  identityFromBytes,
  readEndorserTransaction,
  readEnvelopeHead,
  sha256,
  sha256Hex,
} from '../../model/index.ts';
import {
  blockSigningBytes,
  type CommittedWrite,
  commitHash,
  dataHash,
  decodeBlock,
  decodeOrdererMetadata,
  decodeSignatureHeader,
  decodeSignedMetadata,
  encodeBlock,
  encodeOrdererMetadata,
  encodeSignedMetadata,
  headerHash,
  metadataIndex,
} from './block.ts';

const folder = join(
  process.env.DAYBOOK_DATA ?? resolve(import.meta.dirname, '../../../../shared/data'),
  'fabric',
);
const present = existsSync(folder);
if (!present) console.warn('skipped: real Fabric blocks (set DAYBOOK_DATA to their folder)');

describe.skipIf(!present)('blocks of a real Fabric network', () => {
  const read = (number: number): Buffer => readFileSync(join(folder, `blocks/block${number}.pb`));
  const blocks = present
    ? Array.from({ length: 16 }, (_, number) => decodeBlock(read(number)))
    : [];

  test('are encoded again to the same bytes', () => {
    for (const [number, block] of blocks.entries()) {
      expect(encodeBlock(block).equals(read(number))).toBe(true);
      const signed = decodeSignedMetadata(block.metadata[0] as Buffer);
      expect(encodeSignedMetadata(signed)).toEqual(block.metadata[0]);
      if (number === 0) continue;
      const { lastConfig, consenterMetadata } = decodeOrdererMetadata(Buffer.from(signed.value));
      expect(encodeOrdererMetadata(lastConfig, consenterMetadata)).toEqual(signed.value);
    }
  });

  test('have our header, data and proposal hashes and transaction ids', () => {
    for (const [number, { header, envelopes }] of blocks.entries()) {
      expect(header.number).toBe(number);
      const previous = blocks[number - 1];
      expect(header.previousHash).toEqual(
        previous === undefined ? Buffer.alloc(0) : headerHash(previous.header),
      );
      expect(dataHash(envelopes)).toEqual(header.dataHash);
      if (number < 3) continue;
      for (const envelope of envelopes) {
        const head = readEnvelopeHead(envelope);
        const transaction = readEndorserTransaction(head.data);
        // Blocks 13 and 14 were tampered with on purpose.
        expect(sha256Hex(head.nonce, head.creator) === head.txId).toBe(number !== 14);
        const proposal = sha256(
          head.channelHeader,
          head.signatureHeader,
          transaction.chaincodeProposalPayload,
        );
        expect(proposal.equals(transaction.proposalHash)).toBe(number < 13 || number === 15);
      }
    }
  });

  test('have our commit hashes', () => {
    let previous: Buffer = Buffer.alloc(0);
    for (const { header, envelopes, metadata } of blocks.slice(1)) {
      const flags = metadata[metadataIndex.transactionsFilter] as Buffer;
      const last = new Map<string, CommittedWrite>();
      for (const [transaction, envelope] of envelopes.entries()) {
        if (flags[transaction] !== 0) continue;
        for (const set of readEndorserTransaction(readEnvelopeHead(envelope).data).sets) {
          for (const { key, value } of set.writes) {
            last.set(`${set.namespace}\0${key}`, {
              namespace: set.namespace,
              key,
              value,
              block: header.number,
              transaction,
            });
          }
        }
      }
      const sorted = [...last.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, w]) => w);
      previous = commitHash(flags, sorted, previous);
      const stored = decodeSignedMetadata(metadata[metadataIndex.commitHash] as Buffer)
        .value as Buffer;
      // Block 1 also writes hashes of a private collection, which Daybook does not have.
      if (header.number > 1) expect(previous.equals(stored), `block ${header.number}`).toBe(true);
      previous = stored;
    }
  });

  test('have block and client signatures that we verify', () => {
    const check = (creator: Buffer, message: Buffer, signature: Uint8Array): boolean => {
      const { publicKey } = new X509Certificate(identityFromBytes(creator).certificate);
      return verify('sha256', message, publicKey, signature);
    };
    for (const { header, metadata, envelopes } of blocks.slice(1)) {
      const { value, signatures } = decodeSignedMetadata(metadata[0] as Buffer);
      for (const { signatureHeader, signature } of signatures) {
        const { creator } = decodeSignatureHeader(signatureHeader);
        const message = blockSigningBytes(value, signatureHeader, header);
        expect(check(creator, message, signature)).toBe(true);
        message[0] = (message[0] as number) ^ 1;
        expect(check(creator, message, signature)).toBe(false);
      }
      expect(signatures).toHaveLength(1);
      for (const envelope of envelopes) {
        const { payload, creator, signature } = readEnvelopeHead(envelope);
        expect(check(creator, payload, signature)).toBe(true);
      }
    }
  });
});
