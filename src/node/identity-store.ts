import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { DaybookError, limits } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { type Identity, type MspConfig, type Signer, signerFromPem } from '../model/index.ts';
import { certificateFingerprint, DevelopmentCa, type IssueOptions } from './dev-ca.ts';

/** An identity as it lies on disk. */
export interface StoredIdentity {
  readonly name: string;
  readonly identity: Identity;
  readonly signer: Signer;
  readonly certificateFile: string;
  readonly privateKeyFile: string;
}

/** What a certificate says about its holder. */
export interface IdentityDescription {
  readonly name: string;
  readonly mspId: string;
  readonly subject: string;
  readonly role: string | undefined;
  readonly validFrom: string;
  readonly validTo: string;
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint: string;
  readonly certificateFile: string;
  readonly privateKeyFile: string;
}

/**
 * The development identities of one directory:
 *
 * - `identities/NAME.cert.pem`, `identities/NAME.key.pem` (readable by the owner only)
 * - `msps/MSPID.json`: the {@link MspConfig} for a channel's configuration
 * - `msps/MSPID.ca.cert.pem`, `msps/MSPID.ca.key.pem`: the MSP's own authority
 */
export class IdentityStore {
  readonly #io: Io;
  readonly #directory: string;

  /** @param directory - absolute; made on the first write. */
  constructor(io: Io, directory: string) {
    this.#io = io;
    this.#directory = directory;
  }

  /** The authority of an MSP; it is created when there is none yet. */
  async authority(mspId: string): Promise<DevelopmentCa> {
    checkName('MSP id', mspId);
    const at = (suffix: string): string => join(this.#directory, 'msps', `${mspId}${suffix}`);
    const certificate = await this.#io.disk.readFile(at('.ca.cert.pem'));
    const privateKey = await this.#io.disk.readFile(at('.ca.key.pem'));
    if (certificate !== undefined && privateKey !== undefined) {
      return DevelopmentCa.load(mspId, {
        certificate: certificate.toString(),
        privateKey: privateKey.toString(),
      });
    }
    if (certificate !== undefined) {
      throw new DaybookError('CONFIG_INVALID', `the key of ${mspId}’s authority is missing`, {
        details: { mspId, path: at('.ca.key.pem') },
      });
    }
    const authority = await DevelopmentCa.create(mspId, this.#io.clock.nowMs());
    await this.#io.disk.makeDirectory(join(this.#directory, 'msps'));
    await this.#write(at('.ca.key.pem'), authority.root.privateKey, true);
    const config = `${JSON.stringify(authority.mspConfig, undefined, 2)}\n`;
    await this.#write(at('.json'), config);
    // Last, because its presence says that the authority is complete.
    await this.#write(at('.ca.cert.pem'), authority.root.certificate);
    return authority;
  }

  /** The configurations of all MSPs that have an authority here, by id. */
  async mspConfigs(): Promise<MspConfig[]> {
    const names = await this.#io.disk.list(join(this.#directory, 'msps'));
    const suffix = '.ca.cert.pem';
    const mspIds = names.filter((name) => name.endsWith(suffix));
    return Promise.all(
      mspIds.map(async (name) => (await this.authority(name.slice(0, -suffix.length))).mspConfig),
    );
  }

  /**
   * Issues a new identity of an MSP.
   *
   * @throws {DaybookError} `INVALID_ARGUMENT` when the name is taken or not a plain file name.
   */
  async create(name: string, mspId: string, options: IssueOptions = {}): Promise<StoredIdentity> {
    checkName('identity name', name);
    if ((await this.#io.disk.readFile(this.#file(name, 'cert'))) !== undefined) {
      throw new DaybookError('INVALID_ARGUMENT', `there is an identity ${name} already`, {
        details: { name },
      });
    }
    const authority = await this.authority(mspId);
    const issued = await authority.issue(name, options);
    await this.#io.disk.makeDirectory(join(this.#directory, 'identities'));
    await this.#write(this.#file(name, 'key'), issued.privateKey, true);
    await this.#write(this.#file(name, 'cert'), issued.certificate);
    return this.#stored(name, issued.identity, issued.signer);
  }

  /** @throws {DaybookError} `NOT_FOUND`; `CONFIG_INVALID` when the files are not usable. */
  async load(name: string): Promise<StoredIdentity> {
    checkName('identity name', name);
    const certificate = await this.#io.disk.readFile(this.#file(name, 'cert'));
    const privateKey = await this.#io.disk.readFile(this.#file(name, 'key'));
    if (certificate === undefined || privateKey === undefined) {
      throw new DaybookError('NOT_FOUND', `no identity ${name} in ${this.#directory}`, {
        details: { name },
      });
    }
    const identity = identityOf(name, certificate.toString());
    return this.#stored(name, identity, signerFromPem(identity, privateKey.toString()));
  }

  /** Creates the identity, or loads it when it is there. */
  async ensure(name: string, mspId: string, options: IssueOptions = {}): Promise<StoredIdentity> {
    const known = (await this.names()).includes(name);
    return known ? this.load(name) : this.create(name, mspId, options);
  }

  /** Names of all identities, sorted. */
  async names(): Promise<string[]> {
    const files = await this.#io.disk.list(join(this.#directory, 'identities'));
    return files
      .filter((file) => file.endsWith('.cert.pem'))
      .map((file) => file.slice(0, -'.cert.pem'.length));
  }

  /** @throws {DaybookError} `NOT_FOUND`; `CONFIG_INVALID` */
  async describe(name: string): Promise<IdentityDescription> {
    const { identity, certificateFile, privateKeyFile } = await this.load(name);
    const certificate = new X509Certificate(identity.certificate);
    return {
      name,
      mspId: identity.mspId,
      subject: certificate.subject.replaceAll('\n', ', '),
      role: subjectPart(certificate, 'OU'),
      validFrom: new Date(certificate.validFrom).toISOString(),
      validTo: new Date(certificate.validTo).toISOString(),
      fingerprint: certificateFingerprint(identity.certificate),
      certificateFile,
      privateKeyFile,
    };
  }

  #stored(name: string, identity: Identity, signer: Signer): StoredIdentity {
    const [certificateFile, privateKeyFile] = [this.#file(name, 'cert'), this.#file(name, 'key')];
    return { name, identity, signer, certificateFile, privateKeyFile };
  }

  #file(name: string, kind: 'cert' | 'key'): string {
    return join(this.#directory, 'identities', `${name}.${kind}.pem`);
  }

  #write(path: string, text: string, ownerOnly = false): Promise<void> {
    return this.#io.disk.writeFile(path, Buffer.from(text), { ownerOnly });
  }
}

/** The organisation of a certificate is its MSP id: so this directory's authorities issue them. */
function identityOf(name: string, pem: string): Identity {
  let mspId: string | undefined;
  try {
    mspId = subjectPart(new X509Certificate(pem), 'O');
  } catch (cause) {
    throw new DaybookError('CONFIG_INVALID', `the certificate of ${name} is not readable`, {
      cause,
      details: { name },
    });
  }
  if (mspId === undefined) {
    throw new DaybookError('CONFIG_INVALID', `the certificate of ${name} names no organisation`, {
      details: { name },
    });
  }
  return { mspId, certificate: pem };
}

function subjectPart(certificate: X509Certificate, part: string): string | undefined {
  const line = certificate.subject.split('\n').find((text) => text.startsWith(`${part}=`));
  return line?.slice(part.length + 1);
}

function checkName(what: string, name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._@-]*$/.test(name) || name.length > limits.nameBytesMax) {
    throw new DaybookError('INVALID_ARGUMENT', `${what} ${JSON.stringify(name)} is not allowed`, {
      details: { what, name },
    });
  }
}
