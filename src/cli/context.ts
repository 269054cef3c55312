import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { DaybookError } from '../base/index.ts';
import { type Client, connect } from '../client/index.ts';
import type { Io } from '../io/index.ts';
import type { Signer } from '../model/index.ts';
import { networkIdentities } from './identities.ts';
import { type NetworkFile, readNetworkFile } from './network-file.ts';
import type { Terminal } from './terminal.ts';

/** What every command gets. */
export interface CliContext {
  readonly io: Io;
  readonly terminal: Terminal;
  /** Relative paths of the command line start here. */
  readonly workingDirectory: string;
}

/** Options of every command. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly directory: string;
}

/** Options of the commands that talk to a network. */
export interface NetworkOptions extends CommonOptions {
  readonly gateway?: readonly string[];
  readonly channel?: string;
  readonly identity?: string;
  readonly timeout: number;
}

/** Adds the options of {@link CommonOptions}. */
export function withCommonOptions(command: Command): Command {
  return command
    .option('-d, --directory <path>', 'data directory of the network', '.daybook')
    .option('--json', 'print JSON: one document, or one a line where the output has no end');
}

/** Adds the options of {@link NetworkOptions}. */
export function withNetworkOptions(command: Command): Command {
  return withCommonOptions(command)
    .option(
      '-g, --gateway <url...>',
      'gateways to use, up to the next option or -- (default: those in the data directory)',
    )
    .option('-c, --channel <name>', 'channel (default: the one in the data directory)')
    .option('-i, --identity <name>', 'who signs (default: the one in the data directory)')
    .addOption(
      new Option('-t, --timeout <seconds>', 'how long to wait for an answer')
        .argParser((text) => positiveNumber(text))
        .default(30),
    );
}

/** A network as the options and the data directory describe it. */
export interface NetworkConnection {
  readonly channel: string;
  readonly gateways: readonly string[];
  readonly signer: Signer;
  readonly mspId: string;
  /** Name of the identity that signs. */
  readonly identity: string;
}

/**
 * Finds the network and the identity to use; connects to nothing.
 *
 * @throws {DaybookError} `NOT_FOUND` when there is neither a network in the data directory nor all
 *   that is needed among the options.
 */
export async function openNetwork(
  context: CliContext,
  options: NetworkOptions,
): Promise<NetworkConnection> {
  const directory = resolve(context.workingDirectory, options.directory);
  const network = await findNetwork(context.io, directory, options);
  const signer = await networkIdentities(context.io, directory).load(network.identity);
  return { ...network, signer, mspId: signer.identity.mspId };
}

/**
 * Connects, does `work`, closes.
 *
 * @throws {DaybookError} as {@link openNetwork}; what `work` throws.
 */
export async function withClient<T>(
  context: CliContext,
  options: NetworkOptions,
  work: (connection: NetworkConnection & { readonly client: Client }) => Promise<T>,
): Promise<T> {
  const network = await openNetwork(context, options);
  const { gateways, channel, signer } = network;
  const client = await connect({ gateways, channel, signer, deadlineMs: options.timeout * 1000 });
  try {
    return await work({ ...network, client });
  } finally {
    await client.close();
  }
}

const waitingSaidMs = 3_000;

/** Does `work`; says on stderr what is waited for when it takes long. */
export async function whileWaiting<T>(
  { io, terminal }: CliContext,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  const say = (): void => terminal.err(`still waiting for ${what} …\n`);
  const timer = io.timers.after(waitingSaidMs, say);
  try {
    return await work();
  } finally {
    timer.cancel();
  }
}

async function findNetwork(
  io: Io,
  directory: string,
  options: NetworkOptions,
): Promise<Pick<NetworkFile, 'channel' | 'gateways' | 'identity'>> {
  const file = await readNetworkFile(io, directory);
  const gateways = options.gateway ?? file?.gateways;
  const channel = options.channel ?? file?.channel;
  const identity = options.identity ?? file?.identity;
  if (gateways === undefined || channel === undefined || identity === undefined) {
    throw new DaybookError(
      'NOT_FOUND',
      `no network in ${directory}: start one with \`daybook up\`, name its directory with ` +
        '--directory, or give --gateway, --channel and --identity',
      { details: { directory } },
    );
  }
  return { gateways, channel, identity };
}

/** Parses an option that is a number over 0. */
export function positiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0) || !Number.isFinite(value)) {
    throw new InvalidArgumentError('It must be a number over 0.');
  }
  return value;
}

/** Makes a parser of options that are whole numbers from `min` to `max`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Help text with examples, for `addHelpText('after', …)`. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}\n`).join('')}`;
}
