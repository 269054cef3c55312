import { Command } from 'commander';
import { addressOf, asPosition } from '../../model/index.ts';
import {
  type FollowerConfig,
  type FollowerStatus,
  type FollowersStatus,
  httpFeed,
  makeSink,
  startFollower,
} from '../../replication/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  openNetwork,
  withNetworkOptions,
} from '../context.ts';
import { loadExport } from '../load-module.ts';
import { counted, print, table } from '../terminal.ts';

interface FollowOptions extends NetworkOptions {
  readonly config: string;
  readonly retryParked?: boolean;
}

/** `daybook follow`: keeps a copy in another system in step with the ledger. */
export function followCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('follow'))
    .description('Keep a copy in another system in step with the ledger, until Ctrl-C.')
    .requiredOption('--config <file>', 'module that exports `follower`; see docs/followers.md')
    .option('--retry-parked', 'try parked changes again first')
    .addHelpText('after', examples('daybook follow --config shop.ts'))
    .action(async (options: FollowOptions) => {
      const { io, terminal, workingDirectory } = context;
      const { value: config, directory } = await loadExport<FollowerConfig>(
        workingDirectory,
        options.config,
        'follower',
      );
      const network = await openNetwork(context, options);
      const feed = httpFeed({ io, ...network });
      const { sink: _sink, ...rest } = config;
      const follower = startFollower({
        ...rest,
        io,
        feed,
        sink: makeSink(config, io, directory),
        retryParked: options.retryParked ?? false,
        onEvent: (text) => terminal.err(`${config.name}: ${text}\n`),
      });
      terminal.err(`${config.name} follows ${network.channel} at ${network.gateways.join(', ')}\n`);
      void terminal.interrupted().then(() => follower.stop());
      try {
        await follower.ended;
      } finally {
        await feed.close();
      }
      const { position, changes } = follower;
      print(
        terminal,
        options.json,
        { follower: config.name, position, changes },
        () =>
          `${config.name} stopped at position ${position ?? 'none'} after ${counted(changes, 'change')}`,
      );
    });
}

/** `daybook followers`: whether all systems hold the same data, and as of which position. */
export function followersCommand(context: CliContext): Command {
  const command = withNetworkOptions(new Command('followers'))
    .description('Show which data every follower holds, and what it lacks.')
    .option('--forget <name>', 'take a follower out of the account; the log is not kept for it')
    .addHelpText('after', examples('daybook followers', 'daybook followers --json'))
    .action(async (options: NetworkOptions & { readonly forget?: string }) => {
      const feed = httpFeed({ io: context.io, ...(await openNetwork(context, options)) });
      try {
        if (options.forget !== undefined) await feed.forget(options.forget);
        const status = await feed.status();
        print(context.terminal, options.json, status, () =>
          describe(status, context.io.clock.nowMs()),
        );
      } finally {
        await feed.close();
      }
    });
  return command;
}

function describe(status: FollowersStatus, nowMs: number): string[] {
  const { followers, tail, appliedByAll, neededFrom } = status;
  if (followers.length === 0) return ['no followers'];
  const rows = followers.map((follower) => [
    follower.name,
    address(follower.deliveredPosition),
    address(follower.appliedPosition),
    `${follower.lagChanges}${follower.lagExact ? '' : '+'}`,
    `${(follower.lagMs / 1000).toFixed(1)} s`,
    `${Math.max(0, (nowMs - follower.seenAtMs) / 1000).toFixed(0)} s ago`,
    stateOf(follower),
  ]);
  const heading = ['follower', 'delivered', 'applied', 'lacks', 'lag', 'seen', 'state'];
  const { inStep } = status;
  return [
    ...table([heading, ...rows]),
    '',
    inStep
      ? `All systems hold the same data, as of address ${address(tail)}.`
      : `Not all systems hold the same data. All hold everything before address ${address(appliedByAll)}; the ledger stands at ${address(tail)}.`,
    ...(neededFrom === undefined ? [] : [`Followers need the log from address ${neededFrom}.`]),
  ];
}

function stateOf(status: FollowerStatus): string {
  const { filling, expired, inStep, encrypted, parked } = status;
  const behind = parked > 0 ? `${parked} parked` : 'behind';
  const state = expired ? 'lease expired' : filling ? 'filling' : inStep ? 'in step' : behind;
  return encrypted ? `${state}, encrypted` : state;
}

function address(position: number): string {
  return String(addressOf(asPosition(position)));
}
