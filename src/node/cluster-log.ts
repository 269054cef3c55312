import { DaybookError } from '../base/index.ts';
import { type Io, type Network, tlsNetwork } from '../io/index.ts';
import { type EtcdLog, openEtcdLog, parseEtcdUrl } from '../log/index.ts';
import { readTlsFiles, type TlsFilePaths } from './tls-files.ts';

/** Where the shared log of a network of many machines is. Plain JSON; secrets lie in files. */
export interface ClusterLogOptions {
  /** `etcd://host:port,…` or `etcds://…`, see `parseEtcdUrl`. */
  readonly url: string;
  /** Absolute paths of PEM files for `etcds://`. */
  readonly tls?: TlsFilePaths;
  /** User of etcd's own access control, and the file that holds the password. */
  readonly user?: string;
  readonly passwordFile?: string;
  /** `--quota-backend-bytes` of etcd's members. */
  readonly quotaBytes?: number;
}

/**
 * Opens the log on etcd that the options describe.
 *
 * @throws {DaybookError} `CONFIG_INVALID` when the URL or a file is wrong;
 *   `ACCESS_DENIED`; `TIMEOUT` when etcd cannot be reached; `NOT_FOUND` when it must exist and does not.
 */
export async function openClusterLog(
  io: Pick<Io, 'clock' | 'timers' | 'random' | 'disk'>,
  options: ClusterLogOptions,
  { mustExist = false }: { readonly mustExist?: boolean } = {},
): Promise<EtcdLog> {
  const { user, passwordFile, quotaBytes } = options;
  const parsed = parseEtcdUrl(options.url);
  if (parsed.tls === undefined && options.tls !== undefined) {
    throw new DaybookError('CONFIG_INVALID', 'TLS files are for addresses with etcds://', {
      details: { url: options.url },
    });
  }
  const password =
    passwordFile === undefined ? undefined : (await read(io, passwordFile)).toString().trim();
  return openEtcdLog(io, {
    ...parsed,
    mustExist,
    ...(parsed.tls === undefined ? {} : { tls: await readTlsFiles(io, options.tls ?? {}) }),
    ...(user === undefined ? {} : { credentials: { user, password: password ?? '' } }),
    ...(quotaBytes === undefined ? {} : { quotaBytes }),
  });
}

/**
 * The network between nodes, apart from that of clients: plain, or TLS with the files.
 *
 * @throws {DaybookError} `CONFIG_INVALID` when one of the three files is not named, or wrong.
 */
export async function privateNetwork(
  io: Pick<Io, 'clock' | 'disk' | 'network'>,
  files: TlsFilePaths | undefined,
  onEvent?: (text: string) => void,
): Promise<Network> {
  if (files === undefined) return io.network;
  const { ca, certificate, key } = await readTlsFiles(io, files, onEvent);
  if (ca === undefined || certificate === undefined || key === undefined) {
    throw new DaybookError('CONFIG_INVALID', 'TLS between nodes needs root, certificate and key');
  }
  const toldMs = new Map<string, number>();
  return tlsNetwork({ ca, certificate, key }, (from, why) => {
    // It will knock again twenty times a second.
    const text = `refused a connection of ${from} to the private network: ${why}`;
    const nowMs = io.clock.monotonicMs();
    if (nowMs - (toldMs.get(text) ?? Number.NEGATIVE_INFINITY) < refusalMs) return;
    if (toldMs.size >= refusalsMax) toldMs.clear();
    toldMs.set(text, nowMs);
    onEvent?.(text);
  });
}

/** The same refusal is told once in this time; so many different ones are remembered. */
const refusalMs = 600_000;
const refusalsMax = 100;

async function read({ disk }: Pick<Io, 'disk'>, path: string): Promise<Buffer> {
  const bytes = await disk.readFile(path);
  if (bytes !== undefined) return bytes;
  throw new DaybookError('NOT_FOUND', `no file ${path}`, { details: { path } });
}
