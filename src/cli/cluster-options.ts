import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { DaybookError } from '../base/index.ts';
import type { ClusterAdmin, ClusterLogOptions, TlsFilePaths } from '../node/index.ts';
import {
  type CliContext,
  type CommonOptions,
  whileWaiting,
  wholeNumber,
  withCommonOptions,
} from './context.ts';
import { readNetworkFile } from './network-file.ts';

/** Where the shared log of many machines is. */
export interface LogOptions {
  readonly log?: string;
  readonly etcdCa?: string;
  readonly etcdCert?: string;
  readonly etcdKey?: string;
  readonly etcdUser?: string;
  readonly etcdPasswordFile?: string;
  readonly etcdQuota?: number;
  readonly privateCa?: string;
  readonly privateCert?: string;
  readonly privateKey?: string;
}

/** Adds the options of {@link LogOptions}. */
export function withLogOptions(command: Command, log: string): Command {
  return command
    .option('--log <address>', log)
    .option('--etcd-ca <file>', 'roots (PEM) that etcd’s certificate must lead to, for etcds://')
    .option('--etcd-cert <file>', 'certificate (PEM) to show to etcd')
    .option('--etcd-key <file>', 'private key of that certificate (PEM)')
    .option('--etcd-user <name>', 'user of etcd’s access control')
    .option('--etcd-password-file <path>', 'file with the user’s password')
    .option('--private-ca <file>', 'TLS between nodes: root (PEM) of all their certificates')
    .option('--private-cert <file>', 'TLS between nodes: certificate (PEM)')
    .option('--private-key <file>', 'TLS between nodes: private key (PEM)')
    .addOption(
      new Option('--etcd-quota <bytes>', '--quota-backend-bytes of etcd’s members').argParser(
        wholeNumber(1, Number.MAX_SAFE_INTEGER),
      ),
    );
}

/** The log on etcd that the options name; `undefined` without `--log`. */
export function logOptionsOf(
  { workingDirectory }: CliContext,
  options: LogOptions,
): ClusterLogOptions | undefined {
  if (options.log === undefined) return undefined;
  const path = (file: string): string => resolve(workingDirectory, file);
  const { etcdCa, etcdCert, etcdKey, etcdUser, etcdPasswordFile, etcdQuota } = options;
  const tls = {
    ...(etcdCa === undefined ? {} : { ca: path(etcdCa) }),
    ...(etcdCert === undefined ? {} : { certificate: path(etcdCert) }),
    ...(etcdKey === undefined ? {} : { key: path(etcdKey) }),
  };
  return {
    url: options.log,
    ...(Object.keys(tls).length === 0 ? {} : { tls }),
    ...(etcdUser === undefined ? {} : { user: etcdUser }),
    ...(etcdPasswordFile === undefined ? {} : { passwordFile: path(etcdPasswordFile) }),
    ...(etcdQuota === undefined ? {} : { quotaBytes: etcdQuota }),
  };
}

/** The files for TLS between nodes; `undefined` without any of them. */
export function privateTlsOf(
  { workingDirectory }: CliContext,
  { privateCa, privateCert, privateKey }: LogOptions,
): TlsFilePaths | undefined {
  if (privateCa === undefined && privateCert === undefined && privateKey === undefined) {
    return undefined;
  }
  if (privateCa === undefined || privateCert === undefined || privateKey === undefined) {
    throw new DaybookError('USAGE', '--private-ca, --private-cert and --private-key go together');
  }
  const path = (file: string): string => resolve(workingDirectory, file);
  return { ca: path(privateCa), certificate: path(privateCert), key: path(privateKey) };
}

/** Options of commands for operators of many machines. */
export interface AdminOptions extends CommonOptions, LogOptions {}

/** Adds the options of {@link AdminOptions}. */
export function withAdminOptions(command: Command): Command {
  return withLogOptions(
    withCommonOptions(command),
    'etcd://… of the network (default: the one in the data directory)',
  );
}

/**
 * Opens the network for its operator, does `work`, closes.
 *
 * @throws {DaybookError} `NOT_FOUND` when neither the options nor the data directory name a log on
 *   etcd; what `work` throws.
 */
export async function withAdmin<T>(
  context: CliContext,
  options: AdminOptions,
  work: (admin: ClusterAdmin) => Promise<T>,
): Promise<T> {
  const directory = resolve(context.workingDirectory, options.directory);
  const file = await readNetworkFile(context.io, directory);
  const log = logOptionsOf(context, options) ?? file?.log;
  if (log === undefined) {
    throw new DaybookError(
      'NOT_FOUND',
      `no network of many machines in ${directory}: name its log with --log etcd://…`,
      { details: { directory } },
    );
  }
  const { openClusterAdmin } = await import('../node/index.ts');
  const privateTls = privateTlsOf(context, options) ?? file?.privateTls;
  return await whileWaiting(context, `etcd at ${log.url}`, async () => {
    const admin = await openClusterAdmin(context.io, log, privateTls);
    try {
      return await work(admin);
    } finally {
      await admin.close();
    }
  });
}
