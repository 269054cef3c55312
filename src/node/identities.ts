import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { type Signer, signerFromPem } from '../model/index.ts';
import { DevelopmentCa, type IssueOptions } from './dev-ca.ts';

/*
 * Development identities as files: DIRECTORY/ca.{cert,key}.pem is the authority of the MSP,
 * DIRECTORY/NAME.{cert,key}.pem an identity it issued, DIRECTORY/msp.json what a channel's
 * configuration needs to trust them. Keys can be read by their owner only.
 */

const authorityName = 'ca';
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

/** Where an identity's two files lie. */
export interface IdentityFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** The certificate authority and the identities of one MSP in one directory. */
export interface IdentityDirectory {
  readonly ca: DevelopmentCa;
  /**
   * Issues an identity and stores it.
   *
   * @throws {DaybookError} `INVALID_ARGUMENT` when the name is taken or not allowed.
   */
  create(name: string, options?: IssueOptions): Promise<Signer>;
  /** @throws {DaybookError} `NOT_FOUND` */
  load(name: string): Promise<Signer>;
  list(): Promise<string[]>;
  files(name: string): IdentityFiles;
}

/** Opens the directory; makes it, with a new authority for `mspId`, when there is none yet. */
export async function openIdentities(
  io: Pick<Io, 'disk' | 'clock'>,
  directory: string,
  mspId: string,
): Promise<IdentityDirectory> {
  const { disk, clock } = io;
  const files = (name: string): IdentityFiles => ({
    certificateFile: join(directory, `${name}.cert.pem`),
    keyFile: join(directory, `${name}.key.pem`),
  });
  const store = async (name: string, certificate: string, privateKey: string): Promise<void> => {
    const { certificateFile, keyFile } = files(name);
    await disk.writeFile(keyFile, Buffer.from(privateKey), { ownerOnly: true });
    await disk.writeFile(certificateFile, Buffer.from(certificate));
  };
  const read = async (
    name: string,
  ): Promise<{ certificate: string; privateKey: string } | undefined> => {
    const { certificateFile, keyFile } = files(name);
    const certificate = await disk.readFile(certificateFile);
    const privateKey = await disk.readFile(keyFile);
    if (certificate === undefined || privateKey === undefined) return undefined;
    return { certificate: certificate.toString('utf8'), privateKey: privateKey.toString('utf8') };
  };
  const openAuthority = async (): Promise<DevelopmentCa> => {
    const root = await read(authorityName);
    if (root !== undefined) return DevelopmentCa.load(mspId, root);
    const ca = await DevelopmentCa.create(mspId, clock.nowMs());
    await disk.makeDirectory(directory);
    await store(authorityName, ca.root.certificate, ca.root.privateKey);
    await disk.writeFile(
      join(directory, 'msp.json'),
      Buffer.from(`${JSON.stringify(ca.mspConfig, undefined, 2)}\n`),
    );
    return ca;
  };
  const ca = await openAuthority();
  return {
    ca,
    files,
    create: async (name, options) => {
      if (!namePattern.test(name) || name === authorityName) {
        throw new DaybookError('INVALID_ARGUMENT', `not a name for an identity: ${name}`, {
          details: { name },
        });
      }
      if ((await read(name)) !== undefined) {
        throw new DaybookError('INVALID_ARGUMENT', `identity ${name} exists already`, {
          details: { name },
        });
      }
      const issued = await ca.issue(name, options);
      await store(name, issued.certificate, issued.privateKey);
      return issued.signer;
    },
    load: async (name) => {
      const found = await read(name);
      if (found === undefined) {
        throw new DaybookError('NOT_FOUND', `no identity ${name} in ${directory}`, {
          details: { name },
        });
      }
      return signerFromPem({ mspId, certificate: found.certificate }, found.privateKey);
    },
    list: async () =>
      (await disk.list(directory))
        .filter((file) => file.endsWith('.cert.pem'))
        .map((file) => file.slice(0, -'.cert.pem'.length))
        .filter((name) => name !== authorityName),
  };
}
