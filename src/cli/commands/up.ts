import { basename, join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { DaybookError } from '../../base/index.ts';
import type { ExclusiveControl } from '../../model/index.ts';
import type { Network, NetworkOptions as StartOptions } from '../../node/index.ts';
import {
  type CliContext,
  type CommonOptions,
  examples,
  whileWaiting,
  wholeNumber,
  withCommonOptions,
} from '../context.ts';
import { type NetworkFile, readNetworkFile, writeNetworkFile } from '../network-file.ts';
import { print } from '../terminal.ts';
import { type ClusterOptions, startCluster, withClusterOptions } from '../up-cluster.ts';

/** Port of the first gateway unless told otherwise. */
export const defaultPort = 4270;

/** Options of `daybook up` and `daybook demo`. */
export interface UpOptions extends CommonOptions, ClusterOptions {
  readonly executors: number;
  readonly port: number;
  readonly host: string;
  readonly sequencer: boolean;
  readonly blocks: boolean;
  readonly openReads: boolean;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly exclusiveControl?: ExclusiveControl;
  readonly logFile?: string;
}

/** Adds the options of {@link UpOptions}. */
export function withUpOptions(command: Command): Command {
  return withClusterOptions(withCommonOptions(command))
    .addOption(
      new Option('-e, --executors <count>', 'executor nodes, each a process with its own gateway')
        .argParser(wholeNumber(1, 64))
        .default(2),
    )
    .addOption(
      new Option('-p, --port <number>', 'port of the first gateway, the next ones follow; 0: any')
        .argParser(wholeNumber(0, 65_535))
        .default(defaultPort),
    )
    .option('--host <address>', 'address the gateways listen on', '127.0.0.1')
    .option('--no-sequencer', 'run without one: executors append at the tail by themselves')
    .option('--no-blocks', 'make no chain of blocks: no receipts, no proofs')
    .option('--no-open-reads', 'reading needs a signed token, which the other commands send')
    .option('--tls-cert <file>', 'certificate (PEM) for HTTPS; give --tls-key, too')
    .option('--tls-key <file>', 'private key of the certificate (PEM)')
    .addOption(
      new Option(
        '--exclusive-control <mode>',
        'how calls on the same keys are kept apart, when the channel is founded',
      ).choices(['transaction', 'batch', 'interleaved']),
    )
    .option('--log-file <path>', 'node log; - is stderr (default: daybook.log in the directory)');
}

/** A started network, known to the other commands by its `network.json`. */
export interface RunningNetwork {
  readonly network: Network;
  readonly directory: string;
  /** Name of the identity that commands use by default. */
  readonly identity: string;
  close(): Promise<void>;
}

/** Starts the network that the options describe. */
export async function startFromOptions(
  context: CliContext,
  options: UpOptions,
): Promise<RunningNetwork> {
  const { io, workingDirectory } = context;
  const directory = resolve(workingDirectory, options.directory);
  await io.disk.makeDirectory(directory);
  const { openNodeLog } = await import('../node-log.ts');
  const logFile = options.logFile ?? join(directory, 'daybook.log');
  const log = await openNodeLog(
    io,
    logFile === '-' ? undefined : resolve(workingDirectory, logFile),
  );
  const { startNetwork } = await import('../../node/index.ts');
  const cluster = await startCluster(context, options, directory);
  const settings: StartOptions = {
    directory,
    executors: options.executors,
    httpPort: options.port,
    host: options.host,
    sequencer: options.sequencer,
    blocks: options.blocks,
    openReads: options.openReads,
    ...tlsOf(options, workingDirectory),
    ...cluster.settings,
    ...(options.exclusiveControl === undefined
      ? {}
      : { exclusiveControl: options.exclusiveControl }),
    onEvent: (text) => {
      if (!text.includes('ALARM')) {
        log.info(text);
        return;
      }
      log.error(text);
      if (logFile !== '-') context.terminal.err(`${text}\n`);
    },
  };
  const start = (): Promise<Network> => startNetwork(settings);
  const { cluster: many } = cluster.settings;
  const starting =
    many === undefined
      ? start()
      : whileWaiting(context, `etcd at ${many.log.url}, or for nodes that catch up with it`, start);
  const network = await starting.catch(async (error: unknown) => {
    await cluster.stop();
    throw error;
  });
  const identity =
    (await readNetworkFile(io, directory))?.identity ??
    basename(network.certificateFile, '.cert.pem');
  await writeNetworkFile(io, directory, {
    version: 1,
    channel: network.channel,
    mspId: network.signer.identity.mspId,
    gateways: network.gateways,
    identity,
    ...fileFields(cluster.settings.cluster),
  });
  log.info({ gateways: network.gateways, channel: network.channel }, 'network started');
  return {
    network,
    directory,
    identity,
    close: async () => {
      await network.close();
      await cluster.stop();
      log.info('network stopped');
    },
  };
}

function tlsOf(options: UpOptions, workingDirectory: string): Pick<StartOptions, 'tls'> {
  const { tlsCert, tlsKey } = options;
  if (tlsCert === undefined && tlsKey === undefined) return {};
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new DaybookError('USAGE', 'give --tls-cert and --tls-key together');
  }
  const certificateFile = resolve(workingDirectory, tlsCert);
  return { tls: { certificateFile, keyFile: resolve(workingDirectory, tlsKey) } };
}

/** What other commands need to reach the nodes of many machines. */
function fileFields(cluster: StartOptions['cluster']): Pick<NetworkFile, 'log' | 'privateTls'> {
  if (cluster === undefined) return {};
  const { log, privateTls } = cluster;
  return { log, ...(privateTls === undefined ? {} : { privateTls }) };
}

/** `daybook up`: a network on this machine, until SIGINT or SIGTERM. */
export function upCommand(context: CliContext): Command {
  const { terminal } = context;
  return withUpOptions(new Command('up'))
    .description('Start a network on this machine and keep it running until Ctrl-C.')
    .addHelpText(
      'after',
      examples(
        'daybook up',
        'daybook up --executors 4 --port 8000 --directory ./ledger',
        'daybook up --no-sequencer --json',
        'daybook up --log etcd-local',
        'daybook up --log etcd://10.0.0.1:2379,10.0.0.2:2379/main --host 10.0.0.7 --private-host 10.1.0.7 --node-prefix seven-',
      ),
    )
    .action(async (options: UpOptions) => {
      const running = await startFromOptions(context, options);
      const { network, directory, identity } = running;
      const { channel, gateways } = network;
      print(
        terminal,
        options.json,
        { directory, channel, mspId: network.signer.identity.mspId, gateways, identity },
        () => [
          `channel ${channel} is open; data in ${directory}`,
          ...gateways.map((url) => `gateway  ${url}`),
          'Ctrl-C stops the network.',
        ],
      );
      await terminal.interrupted();
      terminal.err('stopping …\n');
      await running.close();
    });
}
