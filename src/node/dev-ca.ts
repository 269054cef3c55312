import 'reflect-metadata';
import {
  createPrivateKey,
  KeyObject,
  X509Certificate as NodeCertificate,
  webcrypto,
} from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  Extension,
  type JsonName,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { DaybookError } from '../base/index.ts';
import {
  type Identity,
  type MspConfig,
  type Signer,
  sha256Hex,
  signerFromPem,
} from '../model/index.ts';

/** What an identity is in its organisation: the certificate's OU, as Fabric's node OUs read it. */
export type IdentityRole = 'admin' | 'client' | 'peer';

/** A certificate with its private key, both PEM; the key is PKCS #8. */
export interface KeyedCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

/** What {@link DevelopmentCa.issue} makes. */
export interface IssuedIdentity extends KeyedCertificate {
  readonly name: string;
  readonly identity: Identity;
  readonly signer: Signer;
}

/** Options of {@link DevelopmentCa.issue}. */
export interface IssueOptions {
  /** Default `client`. */
  readonly role?: IdentityRole;
  /** What contracts read by `clientIdentity.getAttributeValue`. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** First and last moment of validity, milliseconds since 1970; default: the authority's own. */
  readonly validFromMs?: number;
  readonly validToMs?: number;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** Ten years: an expired development certificate must not be what stops a network. */
const validityMs = 3650 * 24 * 3600 * 1000;
/** Clocks of other machines may be behind ours. */
const backdatedMs = 3600 * 1000;
/** Where Fabric's CA keeps an identity's attributes, as JSON. */
const fabricAttributesOid = '1.2.3.4.5.6.7.8.1';

cryptoProvider.set(webcrypto as never);

/**
 * The certificate authority of one MSP on a developer's machine: ECDSA P-256 with a root of its
 * own. Its key lies in memory or in a plain file, so it must not guard anything of value.
 */
export class DevelopmentCa {
  readonly mspId: string;
  readonly root: KeyedCertificate;
  readonly #certificate: X509Certificate;
  readonly #key: webcrypto.CryptoKey;

  private constructor(mspId: string, root: KeyedCertificate, key: webcrypto.CryptoKey) {
    this.mspId = mspId;
    this.root = root;
    this.#certificate = new X509Certificate(root.certificate);
    this.#key = key;
  }

  /**
   * A new authority with a new key.
   *
   * @param nowMs - valid from an hour before this time until ten years after it.
   */
  static async create(mspId: string, nowMs: number): Promise<DevelopmentCa> {
    const keys = await generateKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: await serialNumber(keys.publicKey),
      name: distinguishedName(`${mspId} development CA`, mspId),
      notBefore: new Date(nowMs - backdatedMs),
      notAfter: new Date(nowMs + validityMs),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return new DevelopmentCa(mspId, keyedCertificate(certificate, keys), keys.privateKey);
  }

  /**
   * An authority that was created earlier.
   *
   * @throws {DaybookError} `CONFIG_INVALID` when certificate or key is not readable, or they do not
   *   belong together.
   */
  static async load(mspId: string, root: KeyedCertificate): Promise<DevelopmentCa> {
    try {
      const privateKey = createPrivateKey(root.privateKey);
      if (!new NodeCertificate(root.certificate).checkPrivateKey(privateKey)) {
        throw new Error('the key is not the certificate’s');
      }
      const der = privateKey.export({ type: 'pkcs8', format: 'der' });
      const key = await webcrypto.subtle.importKey('pkcs8', der, algorithm, true, ['sign']);
      return new DevelopmentCa(mspId, root, key);
    } catch (cause) {
      throw new DaybookError(
        'CONFIG_INVALID',
        `the certificate authority of ${mspId} is unusable`,
        {
          cause,
          details: { mspId },
        },
      );
    }
  }

  /** What a channel's configuration needs to trust this authority. */
  get mspConfig(): MspConfig {
    return { mspId: this.mspId, rootCertificates: [this.root.certificate] };
  }

  /** A new key and a certificate for it. `name` becomes the common name. */
  async issue(name: string, options: IssueOptions = {}): Promise<IssuedIdentity> {
    const keys = await generateKeys();
    const attributes = new TextEncoder().encode(JSON.stringify({ attrs: options.attributes }));
    const certificate = await X509CertificateGenerator.create({
      serialNumber: await serialNumber(keys.publicKey),
      subject: distinguishedName(name, this.mspId, options.role ?? 'client'),
      issuer: this.#certificate.subjectName.toJSON(),
      notBefore: new Date(options.validFromMs ?? this.#certificate.notBefore.getTime()),
      notAfter: new Date(options.validToMs ?? this.#certificate.notAfter.getTime()),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
        await AuthorityKeyIdentifierExtension.create(this.#certificate),
        ...(options.attributes === undefined
          ? []
          : [new Extension(fabricAttributesOid, false, attributes)]),
      ],
    });
    const keyed = keyedCertificate(certificate, keys);
    const identity: Identity = { mspId: this.mspId, certificate: keyed.certificate };
    return { name, identity, signer: signerFromPem(identity, keyed.privateKey), ...keyed };
  }
}

/** SHA-256 of a PEM certificate's DER, lower-case hex: what `MspConfig.revoked` lists. */
export function certificateFingerprint(certificate: string): string {
  return sha256Hex(new NodeCertificate(certificate).raw);
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

/** Unique because the key is: 16 bytes of the public key's hash, made positive. */
async function serialNumber(publicKey: webcrypto.CryptoKey): Promise<string> {
  const raw = await webcrypto.subtle.exportKey('raw', publicKey);
  return `40${sha256Hex(new Uint8Array(raw)).slice(0, 32)}`;
}

function distinguishedName(commonName: string, organisation: string, unit?: string): JsonName {
  const name: JsonName = [{ CN: [commonName] }, { O: [organisation] }];
  if (unit !== undefined) name.push({ OU: [unit] });
  return name;
}

function keyedCertificate(
  certificate: X509Certificate,
  keys: webcrypto.CryptoKeyPair,
): KeyedCertificate {
  return {
    certificate: new NodeCertificate(Buffer.from(certificate.rawData)).toString(),
    privateKey: KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
