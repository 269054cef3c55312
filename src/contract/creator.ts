import { X509Certificate } from 'node:crypto';
import { DaybookError } from '../base/index.ts';
import { type Identity, identityFromBytes } from '../model/index.ts';

/** What contracts can ask about the client. */
export interface CreatorFacts {
  readonly identity: Identity;
  /** JSON for the guest's `ClientIdentity`; '' when the certificate is not readable. */
  readonly json: string;
}

const creatorsCachedMax = 1_000;

/** Reads creators once: parsing a certificate costs more than many contract calls. */
export class CreatorCache {
  readonly #known = new Map<string, CreatorFacts>();

  /** @param bytestring - the serialised identity */
  facts(bytestring: string): CreatorFacts {
    const known = this.#known.get(bytestring);
    if (known !== undefined) return known;
    const facts = readCreator(bytestring);
    if (this.#known.size >= creatorsCachedMax) this.#known.clear();
    this.#known.set(bytestring, facts);
    return facts;
  }
}

function readCreator(bytestring: string): CreatorFacts {
  const identity = identityFromBytes(Buffer.from(bytestring, 'latin1'));
  try {
    const certificate = new X509Certificate(identity.certificate);
    const id = `x509::${nameText(certificate.subject)}::${nameText(certificate.issuer)}`;
    return {
      identity,
      json: JSON.stringify({ id, attributes: fabricAttributes(certificate.raw) }),
    };
  } catch {
    return { identity, json: '' };
  }
}

/** A distinguished name as Fabric's Node shim writes it: last part first, `,` between. */
function nameText(name: string | undefined): string {
  return (name ?? '')
    .split('\n')
    .map((part) => part.replace('/', '\\/'))
    .reverse()
    .join(',');
}

/** OID 1.2.3.4.5.6.7.8.1, under which Fabric's CA keeps attributes, as JSON. */
const attributesOid = Buffer.from('2a03040506070801', 'hex');

function fabricAttributes(der: Buffer): Record<string, unknown> {
  const [tbs] = children(der, top(der));
  if (tbs === undefined) return {};
  const wrapper = children(der, tbs).find((one) => one.tag === 0xa3);
  if (wrapper === undefined) return {};
  for (const list of children(der, wrapper)) {
    for (const extension of children(der, list)) {
      const parts = children(der, extension);
      const oid = parts[0];
      const value = parts.at(-1);
      if (oid === undefined || value === undefined) continue;
      if (!der.subarray(oid.start, oid.end).equals(attributesOid)) continue;
      const json = JSON.parse(der.toString('utf8', value.start, value.end)) as {
        attrs?: Record<string, unknown>;
      };
      return json.attrs ?? {};
    }
  }
  return {};
}

interface Element {
  readonly tag: number;
  /** Of the content. */
  readonly start: number;
  readonly end: number;
}

function top(der: Buffer): Element {
  return element(der, 0, der.length);
}

function children(der: Buffer, parent: Element): Element[] {
  const found: Element[] = [];
  for (let at = parent.start; at < parent.end; ) {
    const child = element(der, at, parent.end);
    found.push(child);
    at = child.end;
  }
  return found;
}

function element(der: Buffer, at: number, limit: number): Element {
  const tag = der[at] ?? 0;
  let length = der[at + 1] ?? 0;
  let start = at + 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    if (count === 0 || count > 4 || start + count > limit) throw malformed();
    length = der.readUIntBE(start, count);
    start += count;
  }
  if (start + length > limit) throw malformed();
  return { tag, start, end: start + length };
}

function malformed(): DaybookError {
  return new DaybookError('MALFORMED', 'malformed certificate', {
    details: { what: 'certificate' },
  });
}
