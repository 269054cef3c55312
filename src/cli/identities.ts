import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { type MspConfig, type Signer, signerFromPem } from '../model/index.ts';
import type { IdentityDirectory, IdentityFiles, IssueOptions } from '../node/index.ts';

/** The MSP of a network that is not told another. */
export const defaultMspId = 'Org1MSP';

/** What a certificate says about its holder. */
export interface IdentityDescription extends IdentityFiles {
  readonly name: string;
  readonly mspId: string;
  readonly subject: string;
  readonly validFrom: string;
  readonly validTo: string;
  /** SHA-256 of the certificate's DER, lower-case hexadecimal. */
  readonly fingerprint: string;
}

/**
 * The development identities of a data directory. Those of the network's own MSP lie in
 * `identities/`; those of another MSP in `identities/MSPID/` and are named `MSPID/NAME`.
 */
export interface NetworkIdentities {
  /** @throws {DaybookError} `NOT_FOUND` */
  load(name: string): Promise<Signer>;
  /**
   * Issues an identity; makes the authority of `mspId` when there is none. Without `mspId` it is
   * of the network's own MSP.
   *
   * @returns the name under which it is loaded.
   * @throws {DaybookError} `INVALID_ARGUMENT` when the name is taken or not allowed.
   */
  create(name: string, mspId: string | undefined, options: IssueOptions): Promise<string>;
  /** @throws {DaybookError} `NOT_FOUND` */
  describe(name: string): Promise<IdentityDescription>;
  list(): Promise<IdentityDescription[]>;
}

/** Opens the identities of the data directory `directory`; writes nothing by itself. */
export function networkIdentities(
  io: Pick<Io, 'disk' | 'clock'>,
  directory: string,
): NetworkIdentities {
  const top = join(directory, 'identities');
  const mspOf = async (folder: string): Promise<MspConfig | undefined> => {
    const path = join(folder, 'msp.json');
    const bytes = await io.disk.readFile(path);
    if (bytes === undefined) return undefined;
    try {
      return JSON.parse(bytes.toString('utf8')) as MspConfig;
    } catch (cause) {
      throw new DaybookError('CONFIG_INVALID', `${path} is not JSON`, { cause, details: { path } });
    }
  };
  const locate = async (
    name: string,
  ): Promise<{ folder: string; local: string; mspId: string }> => {
    const [msp, local] = name.includes('/') ? splitName(name) : [undefined, name];
    const folder = msp === undefined ? top : join(top, msp);
    const config = await mspOf(folder);
    if (config === undefined) {
      throw new DaybookError('NOT_FOUND', `no identities in ${folder}`, { details: { name } });
    }
    return { folder, local, mspId: config.mspId };
  };
  const openFolder = async (folder: string, mspId: string): Promise<IdentityDirectory> => {
    // Loaded when it is needed: most commands only sign, and start in half the time without it.
    const { openIdentities } = await import('../node/index.ts');
    return openIdentities(io, folder, mspId);
  };
  const describe = async (name: string): Promise<IdentityDescription> => {
    const { certificateFingerprint } = await import('../node/index.ts');
    const { folder, local, mspId } = await locate(name);
    const store = await openFolder(folder, mspId);
    const { identity } = await store.load(local);
    const certificate = new X509Certificate(identity.certificate);
    return {
      name,
      mspId,
      subject: certificate.subject.replaceAll('\n', ', '),
      validFrom: new Date(certificate.validFrom).toISOString(),
      validTo: new Date(certificate.validTo).toISOString(),
      fingerprint: certificateFingerprint(identity.certificate),
      ...store.files(local),
    };
  };
  return {
    describe,
    load: async (name) => {
      const { folder, local, mspId } = await locate(name);
      const [certificate, key] = await Promise.all(
        ['cert', 'key'].map((kind) => io.disk.readFile(join(folder, `${local}.${kind}.pem`))),
      );
      if (certificate === undefined || key === undefined) {
        throw new DaybookError(
          'NOT_FOUND',
          `no identity ${name} in ${top}: \`daybook identity list\` shows those that are there`,
          { details: { name, directory: top } },
        );
      }
      return signerFromPem({ mspId, certificate: certificate.toString() }, key.toString());
    },
    create: async (name, mspId, options) => {
      const own = (await mspOf(top))?.mspId ?? defaultMspId;
      const foreign = mspId !== undefined && mspId !== own;
      if (foreign) splitName(`${mspId}/${name}`);
      const folder = foreign ? join(top, mspId) : top;
      const store = await openFolder(folder, foreign ? mspId : own);
      await store.create(name, options);
      return foreign ? `${mspId}/${name}` : name;
    },
    list: async () => {
      const names: string[] = [];
      const msp = await mspOf(top);
      if (msp !== undefined) names.push(...(await (await openFolder(top, msp.mspId)).list()));
      for (const entry of await io.disk.list(top)) {
        if (entry.includes('.')) continue;
        const other = await mspOf(join(top, entry));
        if (other === undefined) continue;
        const store = await openFolder(join(top, entry), other.mspId);
        names.push(...(await store.list()).map((name) => `${entry}/${name}`));
      }
      return Promise.all(names.map((name) => describe(name)));
    },
  };
}

/** A folder name must not lead out of the directory, and has no dot: files have. */
function splitName(name: string): [mspId: string, local: string] {
  const match = /^([A-Za-z0-9][A-Za-z0-9_-]{0,63})\/([^/]+)$/.exec(name);
  if (match === null) {
    throw new DaybookError('INVALID_ARGUMENT', `not a name for an identity: ${name}`, {
      details: { name },
    });
  }
  return [match[1] as string, match[2] as string];
}
