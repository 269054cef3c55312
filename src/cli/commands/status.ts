import { Command } from 'commander';
import { DaybookError, toDaybookError } from '../../base/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  openNetwork,
  withNetworkOptions,
} from '../context.ts';
import { readChannel, readJson } from '../gateway-reader.ts';
import { print, table } from '../terminal.ts';

interface Health {
  readonly ready: boolean;
  readonly node: string;
  readonly channels: readonly {
    readonly channel: string;
    readonly nextAddress: number;
    readonly ready: boolean;
    readonly reason?: string;
  }[];
}

interface GatewayStatus {
  readonly gateway: string;
  readonly ready: boolean;
  readonly node?: string;
  /** Log address up to which this node has applied. */
  readonly nextAddress?: number;
  readonly reason?: string;
}

interface Contracts {
  readonly contracts: readonly { name: string; version: string; sequence: number }[];
}

/** `daybook status`: what every gateway says about itself, and the channel's contracts. */
export function statusCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('status'))
    .description('Show the gateways, how far each has applied the log, and the contracts.')
    .addHelpText('after', examples('daybook status', 'daybook status --json'))
    .action(async (options: NetworkOptions) => {
      const network = await openNetwork(context, options);
      const gateways = await Promise.all(
        network.gateways.map((gateway) => gatewayStatus(gateway, network.channel)),
      );
      if (gateways.every((gateway) => gateway.node === undefined)) {
        throw new DaybookError(
          'PEER_UNREACHABLE',
          `no gateway answers: ${network.gateways.join(', ')}`,
        );
      }
      const { contracts } = await readChannel<Contracts>(context.io, network, 'contracts');
      const { channel, mspId, identity } = network;
      print(
        context.terminal,
        options.json,
        { channel, mspId, identity, gateways, contracts },
        () => [
          `channel ${channel}, as ${identity} of ${mspId}`,
          '',
          ...table([
            ['GATEWAY', 'NODE', 'READY', 'APPLIED BELOW'],
            ...gateways.map((one) => [
              one.gateway,
              one.node ?? '–',
              one.ready ? 'yes' : `no: ${one.reason ?? 'not ready'}`,
              one.nextAddress?.toString() ?? '–',
            ]),
          ]),
          '',
          ...contractTable(contracts),
        ],
      );
    });
}

/** The deployed contracts as columns. */
export function contractTable(contracts: Contracts['contracts']): string[] {
  if (contracts.length === 0)
    return ['no contracts; deploy one with `daybook contract deploy DIR`'];
  return table([
    ['CONTRACT', 'VERSION', 'DEPLOYMENT'],
    ...contracts.map(({ name, version, sequence }) => [name, version, String(sequence)]),
  ]);
}

async function gatewayStatus(gateway: string, channel: string): Promise<GatewayStatus> {
  try {
    // A node that is not ready says so with status 503.
    const health = await readJson<Health>(new URL('/health', gateway), undefined, true);
    const own = health.channels.find((one) => one.channel === channel);
    const base = { gateway, node: health.node };
    if (own === undefined) return { ...base, ready: false, reason: `no channel ${channel}` };
    const reason = own.reason === undefined ? {} : { reason: own.reason };
    return { ...base, ready: own.ready, nextAddress: own.nextAddress, ...reason };
  } catch (error) {
    return { gateway, ready: false, reason: toDaybookError(error).message };
  }
}
