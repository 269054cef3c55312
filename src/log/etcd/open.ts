import type { EtcdLog } from './etcd-log.ts';
import type { EtcdLogOptions } from './options.ts';
import type { EtcdIo } from './unit-client.ts';

/**
 * Opens the log that the units hold, or founds one unless it must exist. Loads gRPC only then: processes on the
 * embedded log do without it.
 *
 * @throws {DaybookError} `CONFIG_INVALID`, `ACCESS_DENIED`; `TIMEOUT` when a unit has no majority
 *   or cannot be reached.
 */
export async function openEtcdLog(io: EtcdIo, options: EtcdLogOptions): Promise<EtcdLog> {
  const { EtcdLog } = await import('./etcd-log.ts');
  return EtcdLog.open(io, options);
}
