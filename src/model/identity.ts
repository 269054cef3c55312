import {
  createPrivateKey,
  sign as cryptoSign,
  verify as cryptoVerify,
  type KeyObject,
  X509Certificate,
} from 'node:crypto';
import {
  ByteReader,
  type Bytestring,
  bytestringOf,
  checkLimit,
  DaybookError,
  limits,
} from '../base/index.ts';
import { sha256, sha256Hex } from './hash.ts';

/** Who signs: a membership service provider's id and an X.509 certificate it issued, in PEM. */
export interface Identity {
  readonly mspId: string;
  readonly certificate: string;
}

/** An identity together with its private key. */
export interface Signer {
  readonly identity: Identity;
  /** ECDSA P-256 with SHA-256 over `message`; DER, low S as Fabric demands. */
  sign(message: Uint8Array): Buffer;
}

/** A root of trust: the certificate authorities whose certificates belong to an MSP. */
export interface MspConfig {
  readonly mspId: string;
  /** PEM certificates of the authorities. */
  readonly rootCertificates: readonly string[];
  /** SHA-256 fingerprints (lower-case hex of the DER) of certificates that no longer count. */
  readonly revoked?: readonly string[];
}

/**
 * The serialised identity: protobuf `msp.SerializedIdentity{1: mspid, 2: id_bytes}` exactly as
 * Fabric encodes it. It is the `creator` of which the transaction id is made.
 */
export function identityBytes(identity: Identity): Buffer {
  const mspId = Buffer.from(identity.mspId, 'utf8');
  const certificate = Buffer.from(identity.certificate, 'utf8');
  checkLimit('nameBytesMax', mspId.length);
  checkLimit('certificateBytesMax', certificate.length);
  return Buffer.concat([
    Buffer.of(0x0a),
    varint(mspId.length),
    mspId,
    Buffer.of(0x12),
    varint(certificate.length),
    certificate,
  ]);
}

/**
 * Reads {@link identityBytes}.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function identityFromBytes(bytes: Uint8Array): Identity {
  const reader = new ByteReader(bytes, 'serialised identity');
  if (reader.u8() !== 0x0a) reader.fail('no mspid');
  const mspId = reader.raw(readVarint(reader)).toString('utf8');
  if (reader.u8() !== 0x12) reader.fail('no certificate');
  const certificate = reader.raw(readVarint(reader)).toString('utf8');
  reader.finish();
  if (mspId.length > limits.nameBytesMax) reader.fail('mspid too long');
  if (certificate.length > limits.certificateBytesMax) reader.fail('certificate too long');
  return { mspId, certificate };
}

/**
 * A signer from a PEM private key.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT` when the key is not an ECDSA P-256 key.
 */
export function signerFromPem(identity: Identity, privateKeyPem: string): Signer {
  let key: KeyObject;
  try {
    key = createPrivateKey(privateKeyPem);
  } catch (cause) {
    throw new DaybookError('INVALID_ARGUMENT', 'the private key is not readable', { cause });
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new DaybookError('INVALID_ARGUMENT', 'the private key is not ECDSA P-256');
  }
  return { identity, sign: (message) => lowS(cryptoSign('sha256', message, key)) };
}

/**
 * Checks certificates against the MSPs of a channel, and signatures against certificates. What was
 * checked once is remembered: parsing a certificate costs more than a signature check.
 * A verdict depends on the configuration and the given time only, so replay may use it.
 */
export class IdentityVerifier {
  readonly #msps: ReadonlyMap<string, Msp>;
  readonly #certificates = new Map<string, CheckedCertificate>();

  /** @throws {DaybookError} `CONFIG_INVALID` when a root certificate is not readable. */
  constructor(msps: readonly MspConfig[]) {
    this.#msps = new Map(
      msps.map((msp) => {
        try {
          const roots = msp.rootCertificates.map((pem) => new X509Certificate(pem));
          return [msp.mspId, { roots, revoked: new Set(msp.revoked) }];
        } catch (cause) {
          throw new DaybookError('CONFIG_INVALID', `MSP ${msp.mspId}: unreadable certificate`, {
            cause,
            details: { mspId: msp.mspId },
          });
        }
      }),
    );
  }

  /**
   * @param timeMs - the time at which the certificate must be within its validity: at replay the
   *   transaction's own timestamp, never the clock.
   * @throws {DaybookError} `IDENTITY_UNKNOWN`
   */
  checkIdentity(identity: Identity, timeMs: number): void {
    const { fromMs, toMs } = this.#certificate(identity);
    if (timeMs < fromMs || timeMs > toMs) {
      throw new DaybookError('IDENTITY_UNKNOWN', 'the certificate is not valid at that time', {
        details: { mspId: identity.mspId, timeMs },
      });
    }
  }

  /**
   * @throws {DaybookError} `SIGNATURE_INVALID`, or `IDENTITY_UNKNOWN` for a foreign certificate.
   */
  checkSignature(identity: Identity, message: Uint8Array, signature: Uint8Array): void {
    const { publicKey, fingerprint } = this.#certificate(identity);
    const check = `${bytestringOf(sha256(message))}${bytestringOf(signature)}${fingerprint}`;
    if (verified.has(check)) return;
    if (!cryptoVerify('sha256', message, publicKey, signature)) {
      throw new DaybookError('SIGNATURE_INVALID', 'the signature does not match', {
        details: { mspId: identity.mspId },
      });
    }
    if (verified.size >= verifiedMax) verified.clear();
    verified.add(check);
  }

  #certificate(identity: Identity): CheckedCertificate {
    const key = `${identity.mspId}\0${identity.certificate}`;
    const known = this.#certificates.get(key);
    if (known !== undefined) return known;
    const checked = this.#check(identity);
    if (this.#certificates.size >= certificatesCachedMax) this.#certificates.clear();
    this.#certificates.set(key, checked);
    return checked;
  }

  #check(identity: Identity): CheckedCertificate {
    const unknown = (why: string, cause?: unknown): DaybookError =>
      new DaybookError('IDENTITY_UNKNOWN', why, { cause, details: { mspId: identity.mspId } });
    const msp = this.#msps.get(identity.mspId);
    if (msp === undefined) throw unknown(`the channel has no MSP ${identity.mspId}`);
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(identity.certificate);
    } catch (cause) {
      throw unknown('the certificate is not readable', cause);
    }
    const issued = msp.roots.some(
      (root) => certificate.checkIssued(root) && certificate.verify(root.publicKey),
    );
    if (!issued) throw unknown(`the certificate is not issued by ${identity.mspId}`);
    const fingerprint = sha256Hex(certificate.raw);
    if (msp.revoked.has(fingerprint)) throw unknown('the certificate is revoked');
    const publicKey = certificate.publicKey;
    if (publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw unknown('the certificate’s key is not ECDSA P-256');
    }
    return {
      publicKey,
      fingerprint,
      fromMs: Date.parse(certificate.validFrom),
      toMs: Date.parse(certificate.validTo),
    };
  }
}

interface Msp {
  readonly roots: readonly X509Certificate[];
  readonly revoked: ReadonlySet<string>;
}

interface CheckedCertificate {
  readonly publicKey: KeyObject;
  /** Hexadecimal: SHA-256 of the certificate. */
  readonly fingerprint: string;
  readonly fromMs: number;
  readonly toMs: number;
}

const certificatesCachedMax = 10_000;
const verifiedMax = 10_000;
/**
 * Signatures that matched: hash of the message, signature, fingerprint of the certificate. Whether
 * a certificate counts is asked first, and by each verifier for itself; that a signature matches is
 * arithmetic, so all verifiers of a process share what they found.
 */
const verified = new Set<Bytestring>();

const curveOrder = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');

/** The same ECDSA P-256 signature (DER) with `s` in the lower half, the only form Fabric accepts. */
export function lowS(der: Buffer): Buffer {
  const rLength = der[3] as number;
  const sAt = 4 + rLength + 2;
  const s = BigInt(`0x${der.toString('hex', sAt)}`);
  if (s <= curveOrder / 2n) return der;
  const low = Buffer.from((curveOrder - s).toString(16).padStart(64, '0'), 'hex');
  // Half the order is below 2^255, so the first byte never has its sign bit set.
  let start = 0;
  while (low[start] === 0 && (low[start + 1] as number) < 0x80) start++;
  const sBytes = low.subarray(start);
  const r = der.subarray(2, 4 + rLength);
  const body = Buffer.concat([r, Buffer.of(0x02, sBytes.length), sBytes]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

/** Whether an ECDSA P-256 signature (DER) that verifies is in the form that {@link lowS} gives. */
export function isLowS(der: Uint8Array): boolean {
  const rLength = der[3] ?? 0;
  const s = Buffer.from(der.subarray(4 + rLength + 2)).toString('hex');
  return s !== '' && BigInt(`0x${s}`) <= curveOrder / 2n;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

function readVarint(reader: ByteReader): number {
  let value = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = reader.u8();
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return reader.fail('length too long');
}
