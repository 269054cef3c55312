import { createPrivateKey, X509Certificate } from 'node:crypto';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { TlsOptions } from '../log/index.ts';

/** Absolute paths of PEM files. */
export interface TlsFilePaths {
  /** Roots that the other side's certificate must lead to. */
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
}

/**
 * Reads the files that are named, and looks whether they are what they should be: a connection would
 * fail with a word of OpenSSL's, at the other end or much later.
 *
 * @param onEvent - hears of a certificate that has expired: others refuse it, but that may be mended
 *   while the node runs.
 * @throws {DaybookError} `CONFIG_INVALID`, naming the file.
 */
export async function readTlsFiles(
  io: Pick<Io, 'disk' | 'clock'>,
  files: TlsFilePaths,
  onEvent: (text: string) => void = () => undefined,
): Promise<TlsOptions> {
  const { ca, certificate, key } = files;
  const roots = await read(io, ca);
  const chain = await read(io, certificate);
  const privateKey = await read(io, key);
  if (ca !== undefined && roots !== undefined) parsed(ca, 'certificate', () => x509(roots));
  if (certificate !== undefined && chain !== undefined) {
    const own = parsed(certificate, 'certificate', () => x509(chain));
    if (Date.parse(own.validTo) < io.clock.nowMs()) {
      onEvent(`ALARM the certificate ${certificate} expired on ${own.validTo}: others refuse it`);
    }
    if (key !== undefined && privateKey !== undefined) {
      const found = parsed(key, 'private key', () => createPrivateKey(privateKey));
      if (!own.checkPrivateKey(found)) {
        throw invalid(key, `${key} is the key of another certificate than ${certificate}`);
      }
    }
  }
  return {
    ...(roots === undefined ? {} : { ca: roots }),
    ...(chain === undefined ? {} : { certificate: chain }),
    ...(privateKey === undefined ? {} : { key: privateKey }),
  };
}

async function read(io: Pick<Io, 'disk'>, path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined;
  const bytes = await io.disk.readFile(path);
  if (bytes === undefined) throw invalid(path, `there is no file ${path}`);
  return bytes;
}

function x509(pem: Buffer): X509Certificate {
  if (!pem.includes('-----BEGIN')) throw new Error('no PEM');
  return new X509Certificate(pem);
}

function parsed<T>(path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw invalid(path, `${path} is no ${what} (PEM)`, cause);
  }
}

function invalid(path: string, message: string, cause?: unknown): DaybookError {
  return new DaybookError('CONFIG_INVALID', message, { details: { path }, cause });
}
