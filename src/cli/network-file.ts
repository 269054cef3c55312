import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { ClusterLogOptions, TlsFilePaths } from '../node/index.ts';

/**
 * `network.json` in the data directory: how the other commands find the network that `daybook up`
 * started there. Files are named relative to the directory, so that it can be moved.
 */
export interface NetworkFile {
  readonly version: 1;
  readonly channel: string;
  readonly mspId: string;
  /** URLs of the gateways. */
  readonly gateways: readonly string[];
  /** The identity that commands use unless told otherwise. */
  readonly identity: string;
  /** Many machines: where the log is. */
  readonly log?: ClusterLogOptions;
  /** Many machines: files for TLS between nodes. */
  readonly privateTls?: TlsFilePaths;
}

const fileName = 'network.json';

/** Writes the file. */
export async function writeNetworkFile(
  io: Pick<Io, 'disk'>,
  directory: string,
  network: NetworkFile,
): Promise<void> {
  const text = `${JSON.stringify(network, undefined, 2)}\n`;
  await io.disk.writeFile(join(directory, fileName), Buffer.from(text));
}

/**
 * Reads the file; `undefined` when there is none.
 *
 * @throws {DaybookError} `CONFIG_INVALID`
 */
export async function readNetworkFile(
  io: Pick<Io, 'disk'>,
  directory: string,
): Promise<NetworkFile | undefined> {
  const path = join(directory, fileName);
  const bytes = await io.disk.readFile(path);
  if (bytes === undefined) return undefined;
  let value: Partial<NetworkFile>;
  try {
    value = JSON.parse(bytes.toString('utf8')) as Partial<NetworkFile>;
  } catch (cause) {
    throw new DaybookError('CONFIG_INVALID', `${path} is not JSON`, { cause, details: { path } });
  }
  const texts = [value?.channel, value?.mspId, value?.identity, ...(value?.gateways ?? [])];
  if (value?.version !== 1 || texts.some((text) => typeof text !== 'string')) {
    throw new DaybookError('CONFIG_INVALID', `${path} is not of version 1`, { details: { path } });
  }
  return value as NetworkFile;
}
