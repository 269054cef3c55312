import { ByteReader, ByteWriter, DaybookError, limits } from '../base/index.ts';
import {
  type Identity,
  type IdentityVerifier,
  identityBytes,
  identityFromBytes,
  type Signer,
} from './identity.ts';

/*
 * A read token says who reads: it is sent with requests that change nothing, where a gateway does
 * not leave them open to everybody. It holds for one channel and a short time.
 */

const tokenDomain = Buffer.from('daybook read v1\0');
const tokenVersion = 1;
const signatureBytesMax = 128;

/** How far a read token's time may lie from the gateway's clock. */
export const readTokenLifetimeMs = 300_000;

/** A token, base64url, to be sent as `authorization: Daybook TOKEN`. */
export function signReadToken(signer: Signer, channel: string, timestampMs: number): string {
  return new ByteWriter(2048)
    .u8(tokenVersion)
    .u64(timestampMs)
    .bytes(identityBytes(signer.identity))
    .bytes(signer.sign(readTokenSigningBytes(channel, timestampMs)))
    .finish()
    .toString('base64url');
}

/**
 * Checks a token and tells whose it is.
 *
 * @throws {DaybookError} `MALFORMED`, `IDENTITY_UNKNOWN`, `SIGNATURE_INVALID` (also when the token
 *   is older than {@link readTokenLifetimeMs} or from the future)
 */
export function verifyReadToken(
  token: string,
  channel: string,
  verifier: IdentityVerifier,
  nowMs: number,
): Identity {
  const reader = new ByteReader(Buffer.from(token, 'base64url'), 'read token');
  const version = reader.u8();
  if (version !== tokenVersion) reader.fail(`unknown version ${version}`);
  const timestampMs = reader.u64();
  const creatorBytes = reader.bytes(limits.certificateBytesMax + limits.nameBytesMax + 16);
  const identity = identityFromBytes(creatorBytes);
  const signature = reader.bytes(signatureBytesMax);
  reader.finish();
  if (Math.abs(nowMs - timestampMs) > readTokenLifetimeMs) {
    throw new DaybookError('SIGNATURE_INVALID', 'the read token is not of this time', {
      details: { timestampMs, nowMs, readTokenLifetimeMs },
    });
  }
  verifier.checkIdentity(identity, nowMs);
  verifier.checkSignature(identity, readTokenSigningBytes(channel, timestampMs), signature);
  return identity;
}

function readTokenSigningBytes(channel: string, timestampMs: number): Buffer {
  return new ByteWriter(128).raw(tokenDomain).text(channel).u64(timestampMs).finish();
}
