import { verify, X509Certificate } from 'node:crypto';
import { type Signer, sha256Hex } from '../../../model/index.ts';
import type { ChangeRecord, OriginSignature } from '../core/index.ts';

/*
 * Every record is signed by its origin, so a member that relays it cannot make one up or change it.
 * It can keep records back, and it can pass a replaced version on empty, as compaction leaves it:
 * such a record has no effect but counts.
 */

/** Certificates by fingerprint, PEM. */
export type Certificates = Readonly<Record<string, string>>;

/** SHA-256 of a certificate's DER, hexadecimal. */
export function fingerprintOf(pem: string): string {
  return sha256Hex(new X509Certificate(pem).raw);
}

/** Signs a record of this node. */
export function signRecord(
  record: ChangeRecord,
  signer: Signer,
  certificate: string,
): ChangeRecord {
  const digest = digestOf(record);
  const value = signer.sign(signedText(record, digest)).toString('base64');
  return { ...record, signature: { digest, certificate, value } };
}

/** Whom a node takes for which member: authorities by node id, PEM. */
export class Authorities {
  readonly #roots: ReadonlyMap<string, readonly X509Certificate[]>;
  readonly #checked = new Map<string, X509Certificate>();

  constructor(authorities: Readonly<Record<string, readonly string[]>>) {
    this.#roots = new Map(
      Object.entries(authorities).map(([node, pems]) => [
        node,
        pems.map((pem) => new X509Certificate(pem)),
      ]),
    );
  }

  /** Whether an authority of this node is known. */
  knows(node: string): boolean {
    return this.#roots.has(node);
  }

  /** The member that a certificate is of: its common name, if that member's authority issued it. */
  memberOf(certificate: X509Certificate): string | undefined {
    const node = /(?:^|\n)CN=([^\n]+)/.exec(certificate.subject)?.[1];
    const roots = node === undefined ? undefined : this.#roots.get(node);
    const issued = roots?.some(
      (root) => certificate.checkIssued(root) && certificate.verify(root.publicKey),
    );
    return issued === true ? node : undefined;
  }

  /**
   * Why a record cannot be taken for its origin's; `undefined` when it can.
   *
   */
  problem(record: ChangeRecord, certificates: Certificates): string | undefined {
    const { signature, origin } = record;
    if (!this.knows(origin)) return `no authority of ${origin} is configured`;
    if (signature === undefined) return 'it is not signed';
    const certificate = this.#certificate(signature, certificates);
    if (certificate === undefined) return 'the certificate of its signature is not there';
    if (this.memberOf(certificate) !== origin) return `its certificate is not one of ${origin}`;
    const isEmptied = record.payload.type === 'null';
    if (!isEmptied && digestOf(record) !== signature.digest) return 'its content was changed';
    const value = Buffer.from(signature.value, 'base64');
    const text = signedText(record, signature.digest);
    return verify('sha256', text, certificate.publicKey, value)
      ? undefined
      : 'its signature does not match';
  }

  #certificate(
    { certificate: fingerprint }: OriginSignature,
    certificates: Certificates,
  ): X509Certificate | undefined {
    const known = this.#checked.get(fingerprint);
    if (known !== undefined) return known;
    const pem = Object.hasOwn(certificates, fingerprint) ? certificates[fingerprint] : undefined;
    if (pem === undefined) return undefined;
    try {
      const certificate = new X509Certificate(pem);
      if (sha256Hex(certificate.raw) !== fingerprint) return undefined;
      if (this.#checked.size >= certificatesKeptMax) this.#checked.clear();
      this.#checked.set(fingerprint, certificate);
      return certificate;
    } catch {
      return undefined;
    }
  }
}

const certificatesKeptMax = 1_000;

function digestOf({ payload }: ChangeRecord): string {
  return sha256Hex(Buffer.from(canonical(payload)));
}

function signedText(record: ChangeRecord, digest: string): Buffer {
  const { origin, usn, acknowledgementRequested } = record;
  const parts = ['daybook change record', origin, usn, acknowledgementRequested, digest];
  return Buffer.from(parts.join('\n'));
}

/** The same text for equal values, whatever the order in which properties were set. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1)))
      : part,
  );
}
