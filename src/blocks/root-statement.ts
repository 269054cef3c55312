import { DaybookError } from '../base/index.ts';
import type { IdentityVerifier, Signer } from '../model/index.ts';
import {
  type AttestationJson,
  attestationFromJson,
  attestationOf,
  attestationToJson,
  verifyAttestation,
} from './attestation.ts';
import { decodeSignatureHeader, headerHash, signBlock } from './fabric/block.ts';
import type { RootClaim } from './majority.ts';

/** What a node publishes about its state: the signed part of its newest block, or of an older one. */
export interface RootStatement {
  readonly node: string;
  readonly block: AttestationJson;
}

/** The signed part of a block that a node has, signed by the node itself, whoever made the block. */
export function signedPart(blockBytes: Uint8Array, signer: Signer): AttestationJson {
  const { header, metadataValue } = attestationOf(blockBytes);
  const signatures = [signBlock(signer, metadataValue, header)];
  return attestationToJson({ header, metadataValue, signatures });
}

/**
 * What a statement claims, once its signature holds.
 *
 * @returns the claim, and who signed it: a node is whoever has the key, not whatever it calls itself.
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED`
 */
export function claimOf(
  { node, block }: RootStatement,
  verifier: IdentityVerifier,
): { readonly claim: RootClaim; readonly signer: string } {
  const attestation = attestationFromJson(block);
  const proof = verifyAttestation(attestation, { msps: [] }, verifier);
  const [signature, ...others] = attestation.signatures;
  if (signature === undefined || others.length > 0) {
    throw new DaybookError('PROOF_INVALID', 'a statement has one signature');
  }
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  return {
    claim: {
      node,
      height: attestation.header.number + 1,
      blockHash: hex(headerHash(attestation.header)),
      stateRoot: hex(proof.stateRoot),
      historyRoot: hex(proof.historyRoot),
    },
    signer: hex(decodeSignatureHeader(signature.signatureHeader).creator),
  };
}
