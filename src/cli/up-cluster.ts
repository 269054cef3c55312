import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { DaybookError } from '../base/index.ts';
import type { NetworkOptions } from '../node/index.ts';
import { type LogOptions, logOptionsOf, privateTlsOf, withLogOptions } from './cluster-options.ts';
import { type CliContext, positiveNumber, wholeNumber } from './context.ts';
import { startLocalEtcd } from './local-etcd.ts';

/** Options of `daybook up` for many machines. */
export interface ClusterOptions extends LogOptions {
  readonly privateHost?: string;
  readonly privatePort?: number;
  readonly nodePrefix?: string;
  readonly lease?: number;
  readonly rotateSequencer?: number;
  readonly retain?: NonNullable<NetworkOptions['retention']>;
}

/** Adds the options of {@link ClusterOptions}. */
export function withClusterOptions(command: Command): Command {
  return withLogOptions(
    command,
    'put the log on etcd: etcd://host:port,…/NAME, or etcd-local to start three members here',
  )
    .option(
      '--private-host <address>',
      'with --log: where nodes listen for one another (127.0.0.1)',
    )
    .addOption(
      new Option(
        '--private-port <number>',
        'with --log: that port of the first node, the next ones follow (default: any)',
      ).argParser(wholeNumber(0, 65_535)),
    )
    .option('--node-prefix <text>', 'begins the names of the nodes; another one on every machine')
    .addOption(
      new Option(
        '--lease <seconds>',
        'with --log: how long a sequencer that hangs goes unnoticed (2)',
      ).argParser(wholeNumber(2, 60)),
    )
    .addOption(
      new Option(
        '--retain <entries:nodes[:more]>',
        'with --log, when the channel is founded: entries that stay on etcd, how many nodes must ' +
          'hold older ones before they leave, and how many stay at most for followers that still ' +
          'need them (default: all stay; for followers ten times as many)',
      ).argParser(retention),
    )
    .addOption(
      new Option(
        '--rotate-sequencer <seconds>',
        'with --log: move the sequencer to the next node so often',
      ).argParser(positiveNumber),
    );
}

function retention(text: string): NonNullable<NetworkOptions['retention']> {
  const match = /^([1-9]\d{0,11}):([1-9]\d{0,3})(?::([1-9]\d{0,11}))?$/.exec(text);
  if (match === null)
    throw new InvalidArgumentError('It must be like 100000:2 or 100000:2:500000.');
  const [, entries, holders, more] = match;
  return {
    entries: Number(entries),
    holders: Number(holders),
    ...(more === undefined ? {} : { followerEntries: Number(more) }),
  };
}

/** What {@link startCluster} gives: settings for the network, and how to stop etcd afterwards. */
export interface StartedCluster {
  readonly settings: Pick<NetworkOptions, 'cluster' | 'nodePrefix' | 'retention'>;
  stop(): Promise<void>;
}

/**
 * The settings that the options ask for; with `--log etcd-local`, etcd is started in the directory.
 *
 * @throws {DaybookError} `USAGE` when options lack their `--log`; as `startLocalEtcd`.
 */
export async function startCluster(
  context: CliContext,
  options: ClusterOptions,
  directory: string,
): Promise<StartedCluster> {
  const { nodePrefix } = options;
  const prefix = nodePrefix === undefined ? {} : { nodePrefix };
  const named = logOptionsOf(context, options);
  if (named === undefined) {
    const { privateHost, privatePort, lease, rotateSequencer, retain } = options;
    const given = Object.entries({
      '--private-host': privateHost,
      '--private-port': privatePort,
      '--lease': lease,
      '--rotate-sequencer': rotateSequencer,
      '--retain': retain,
    }).flatMap(([name, value]) => (value === undefined ? [] : [name]));
    if (given.length > 0) {
      throw new DaybookError('USAGE', `${given.join(', ')}: only with --log etcd://…`);
    }
    return { settings: prefix, stop: async () => undefined };
  }
  // What is wrong with the options is said before etcd runs, which nobody would stop then.
  const settings = settingsOf(context, options);
  const isLocal = named.url === 'etcd-local';
  // Its members are process groups of their own: an interrupt must find somebody who stops them.
  if (isLocal) void context.terminal.interrupted();
  const local = isLocal ? await startLocalEtcd(context.io, join(directory, 'etcd')) : undefined;
  const log = local === undefined ? named : { ...named, url: `${local.url}/main` };
  return {
    settings: {
      ...prefix,
      ...(options.retain === undefined ? {} : { retention: options.retain }),
      cluster: { log, ...settings },
    },
    stop: async () => local?.stop(),
  };
}

function settingsOf(
  context: CliContext,
  options: ClusterOptions,
): Omit<NonNullable<NetworkOptions['cluster']>, 'log'> {
  const { privateHost = '127.0.0.1', privatePort = 0, lease, rotateSequencer } = options;
  if (/^(0\.0\.0\.0|::|\[::\])$/.test(privateHost)) {
    throw new DaybookError(
      'USAGE',
      `--private-host: other nodes are told ${privateHost} as it is; name an address of this machine`,
    );
  }
  const privateTls = privateTlsOf(context, options);
  return {
    privateHost,
    privatePort,
    ...(privateTls === undefined ? {} : { privateTls }),
    ...(lease === undefined ? {} : { leaseMs: lease * 1000 }),
    ...(rotateSequencer === undefined ? {} : { rotateMs: rotateSequencer * 1000 }),
  };
}
