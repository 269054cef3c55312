import { asBuffer, DaybookError } from '../base/index.ts';
import { IdentityVerifier, identityFromBytes, type MspConfig } from '../model/index.ts';
import { type BlockProof, decodeBlockProof } from './block-proof.ts';
import {
  type BlockHeader,
  type BlockParts,
  blockSigningBytes,
  decodeBlock,
  decodeOrdererMetadata,
  decodeSignatureHeader,
  decodeSignedMetadata,
  encodeBlock,
  encodeSignedMetadata,
  type MetadataSignature,
} from './fabric/block.ts';

/** The signed part of a block: a few hundred bytes that stand for the whole chain up to it. */
export interface BlockAttestation {
  readonly header: BlockHeader;
  /** `OrdererBlockMetadata` with the `BlockProof` in it. */
  readonly metadataValue: Uint8Array;
  readonly signatures: readonly MetadataSignature[];
}

/** Takes the signed part out of a block. */
export function attestationOf(blockBytes: Uint8Array): BlockAttestation {
  const { header, metadata } = decodeBlock(blockBytes);
  const { value, signatures } = decodeSignedMetadata(metadata[0] ?? Buffer.alloc(0));
  return { header, metadataValue: value, signatures };
}

/** Whom a verifier believes: members of these MSPs, at least `signaturesMin` different ones. */
export interface Trust {
  readonly msps: readonly MspConfig[];
  /** Default 1. More than one guards against a single dishonest generator. */
  readonly signaturesMin?: number;
}

/**
 * Checks a block's signatures and returns what they attest.
 *
 * @throws {DaybookError} `PROOF_INVALID` when fewer than `signaturesMin` members signed, or any
 *   signature is wrong; `MALFORMED`.
 */
export function verifyAttestation(
  attestation: BlockAttestation,
  trust: Trust,
  verifier: IdentityVerifier = new IdentityVerifier(trust.msps),
): BlockProof {
  const { header, metadataValue, signatures } = attestation;
  const proof = decodeBlockProof(decodeOrdererMetadata(metadataValue).consenterMetadata);
  const signers = new Set<string>();
  for (const { signatureHeader, signature } of signatures) {
    const { creator } = decodeSignatureHeader(signatureHeader);
    const identity = identityFromBytes(creator);
    try {
      verifier.checkIdentity(identity, proof.logTimeMs);
      const message = blockSigningBytes(metadataValue, signatureHeader, header);
      verifier.checkSignature(identity, message, signature);
    } catch (cause) {
      throw new DaybookError('PROOF_INVALID', `block ${header.number}: a signature is wrong`, {
        cause,
        details: { height: header.number, mspId: identity.mspId },
      });
    }
    signers.add(creator.toString('latin1'));
  }
  const min = trust.signaturesMin ?? 1;
  if (signers.size < min) {
    throw new DaybookError(
      'PROOF_INVALID',
      `block ${header.number} has ${signers.size} signatures, ${min} are asked for`,
      { details: { height: header.number } },
    );
  }
  return proof;
}

/**
 * One generator's block with another's signatures beside its own.
 *
 * @throws {DaybookError} `BLOCK_MISMATCH` when the two blocks differ in more than signatures.
 */
export function joinSignatures(blockBytes: Uint8Array, otherBytes: Uint8Array): Buffer {
  const [block, other] = [decodeBlock(blockBytes), decodeBlock(otherBytes)];
  const [own, theirs] = [attestationOf(blockBytes), attestationOf(otherBytes)];
  const signedBy = (signatures: readonly MetadataSignature[], parts: BlockParts): Buffer => {
    const signed = encodeSignedMetadata({ value: own.metadataValue, signatures });
    return encodeBlock({ ...parts, metadata: parts.metadata.with(0, signed) });
  };
  const { number } = block.header;
  if (
    !asBuffer(own.metadataValue).equals(theirs.metadataValue) ||
    !signedBy([], block).equals(signedBy([], other))
  ) {
    throw new DaybookError('BLOCK_MISMATCH', `two generators made different blocks ${number}`, {
      details: { height: number },
    });
  }
  const known = new Set(own.signatures.map(signerOf));
  const added = theirs.signatures.filter((one) => !known.has(signerOf(one)));
  return signedBy([...own.signatures, ...added], block);
}

function signerOf({ signatureHeader }: MetadataSignature): string {
  return decodeSignatureHeader(signatureHeader).creator.toString('latin1');
}

/** {@link BlockAttestation} as JSON; bytes in base64. */
export interface AttestationJson {
  number: number;
  previousHash: string;
  dataHash: string;
  metadata: string;
  signatures: { header: string; signature: string }[];
}

/** As HTTP and the private network carry it. */
export function attestationToJson(attestation: BlockAttestation): AttestationJson {
  const { header } = attestation;
  return {
    number: header.number,
    previousHash: base64(header.previousHash),
    dataHash: base64(header.dataHash),
    metadata: base64(attestation.metadataValue),
    signatures: attestation.signatures.map(({ signatureHeader, signature }) => ({
      header: base64(signatureHeader),
      signature: base64(signature),
    })),
  };
}

/** Reads {@link attestationToJson}'s form. */
export function attestationFromJson(json: AttestationJson): BlockAttestation {
  return {
    header: {
      number: json.number,
      previousHash: Buffer.from(json.previousHash, 'base64'),
      dataHash: Buffer.from(json.dataHash, 'base64'),
    },
    metadataValue: Buffer.from(json.metadata, 'base64'),
    signatures: json.signatures.map(({ header, signature }) => ({
      signatureHeader: Buffer.from(header, 'base64'),
      signature: Buffer.from(signature, 'base64'),
    })),
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
