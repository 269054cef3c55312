import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import { whyUnreachable } from '../../io/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { counted, print, table } from '../terminal.ts';

interface Health {
  readonly ready: boolean;
  readonly node: string;
  readonly channels: readonly {
    readonly channel: string;
    readonly nextAddress: number;
    readonly ready: boolean;
    readonly reason?: string;
    /** Absent when the node makes no blocks. */
    readonly blocks?: Blocks;
    /** Absent when nobody looks after the node's state. */
    readonly guard?: Guard;
    readonly bulk?: readonly BulkUpdate[];
    readonly logWaitsFor?: readonly string[];
    readonly logUnitsAway?: readonly string[];
    readonly unsaved?: string;
  }[];
}

/** See `docs/repair.md`. */
interface Guard {
  readonly state: string;
  readonly reason?: string;
  readonly evidence?: string;
  readonly scrubbedRows?: number;
  readonly scrubPasses?: number;
  readonly agreedHeight?: number;
}

/** A bulk update on its way through the rows of a node. */
interface BulkUpdate {
  readonly position: number;
  readonly rowsSeen: number;
  readonly rowsUpdated: number;
}

interface Blocks {
  readonly height: number;
  readonly blockHash?: string;
  readonly stateRoot?: string;
  readonly alarm?: string;
}

interface GatewayStatus {
  readonly gateway: string;
  readonly ready: boolean;
  readonly node?: string;
  /** The first log address that this node has not applied yet. */
  readonly nextAddress?: number;
  readonly reason?: string;
  /** Where the node's chain stands. */
  readonly blocks?: Blocks;
  /** What the node does about its state. */
  readonly guard?: Guard;
  /** Bulk updates under way, in log order; absent when there are none. */
  readonly bulk?: readonly BulkUpdate[];
  /** Nodes that are away, and without which the log is not trimmed; absent when there are none. */
  readonly logWaitsFor?: readonly string[];
  /** Log units that do not answer this node, each as its endpoints; absent when there are none. */
  readonly logUnitsAway?: readonly string[];
  /** Why what the node applied cannot be saved; absent when it can. */
  readonly unsaved?: string;
}

/** The gateway's answer to `contracts`. */
export interface Contracts {
  readonly contracts: readonly { name: string; version: string; sequence: number }[];
}

/** `daybook status`: what every gateway says about itself, and the channel's contracts. */
export function statusCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('status'))
    .description('Show the gateways, how far each has applied the log, and the contracts.')
    .addHelpText('after', examples('daybook status', 'daybook status --json'))
    .action((options: NetworkOptions) =>
      withClient(context, options, async ({ client, channel, mspId, identity, gateways: urls }) => {
        const gateways = await Promise.all(urls.map((url) => gatewayStatus(url, channel)));
        if (gateways.every((gateway) => gateway.node === undefined)) {
          const why = gateways.map(({ gateway, reason }) => `${gateway}: ${reason}`).join('; ');
          throw new DaybookError('PEER_UNREACHABLE', why);
        }
        const { contracts } = (await client.get('contracts')) as Contracts;
        const disagree = disagreement(gateways);
        const status = { channel, mspId, identity, gateways, contracts, disagree };
        print(context.terminal, options.json, status, () => [
          `channel ${channel}, as ${identity} of ${mspId}`,
          '',
          ...table([
            ['GATEWAY', 'NODE', 'READY', 'NEXT ADDRESS', 'BLOCKS', 'STATE ROOT', 'COMPARED'],
            ...gateways.map((one) => [
              one.gateway,
              one.node ?? '–',
              one.ready ? 'yes' : 'no',
              one.nextAddress?.toString() ?? '–',
              one.blocks?.height.toString() ?? '–',
              one.blocks?.stateRoot?.slice(0, 16) ?? '–',
              comparedText(one.guard),
            ]),
          ]),
          ...gateways.flatMap(notReadyLine),
          ...gateways.flatMap(unsavedLine),
          ...gateways.flatMap(noBlocksLine),
          ...gateways.flatMap(bulkLines),
          ...gateways.flatMap(waitingLine),
          ...disagree.map(
            (height) => `NODES DISAGREE about the state after ${counted(height, 'block')}`,
          ),
          '',
          ...contractTable(contracts),
        ]);
      }),
    );
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
  let health: Health;
  try {
    // A node that is not ready says so with status 503, and in the same form.
    const signal = AbortSignal.timeout(healthTimeoutMs);
    health = (await (await fetch(new URL('/health', gateway), { signal })).json()) as Health;
  } catch (error) {
    return { gateway, ready: false, reason: `no answer (${whyUnreachable(error, gateway)})` };
  }
  const { node } = health;
  const own = health.channels.find((one) => one.channel === channel);
  if (own === undefined) return { gateway, node, ready: false, reason: `no channel ${channel}` };
  const { ready, nextAddress, reason, blocks, guard, bulk, logWaitsFor, logUnitsAway, unsaved } =
    own;
  return {
    gateway,
    node,
    ready,
    nextAddress,
    ...(reason === undefined ? {} : { reason }),
    ...(blocks === undefined ? {} : { blocks }),
    ...(guard === undefined ? {} : { guard }),
    ...(bulk === undefined ? {} : { bulk }),
    ...(logWaitsFor === undefined ? {} : { logWaitsFor }),
    ...(logUnitsAway === undefined ? {} : { logUnitsAway }),
    ...(unsaved === undefined ? {} : { unsaved }),
  };
}

/** Up to which block the node agreed with the majority, and how often its rows were gone through. */
function comparedText(guard: Guard | undefined): string {
  if (guard === undefined) return '–';
  const { state, agreedHeight, scrubPasses = 0, evidence } = guard;
  if (state !== 'serving') return evidence === undefined ? state : `${state}, see ${evidence}`;
  return `block ${agreedHeight ?? '–'}, rows ${scrubPasses}×`;
}

function notReadyLine({ gateway, ready, reason = 'it does not say why' }: GatewayStatus): string[] {
  return ready ? [] : [`${gateway} is NOT READY: ${reason}`];
}

function unsavedLine({ gateway, unsaved }: GatewayStatus): string[] {
  return unsaved === undefined ? [] : [`${gateway} CANNOT SAVE its state: ${unsaved}`];
}

function noBlocksLine({ gateway, blocks }: GatewayStatus): string[] {
  return blocks?.alarm === undefined ? [] : [`${gateway} MAKES NO BLOCKS: ${blocks.alarm}`];
}

function bulkLines({ gateway, bulk = [] }: GatewayStatus): string[] {
  return bulk.map(
    ({ position, rowsSeen, rowsUpdated }) =>
      `bulk update at ${position}: ${gateway} went through ${rowsSeen} rows and changed ${rowsUpdated}`,
  );
}

function waitingLine({ logWaitsFor }: GatewayStatus): string[] {
  if (logWaitsFor === undefined) return [];
  return [
    `THE LOG IS NOT TRIMMED: it waits for ${logWaitsFor.join(', ')}; see \`daybook node list\``,
  ];
}

/** Heights at which two nodes have different chains: the same log must give the same blocks. */
function disagreement(gateways: readonly GatewayStatus[]): number[] {
  const found = new Map<number, string>();
  const heights = new Set<number>();
  for (const { blocks } of gateways) {
    if (blocks?.blockHash === undefined) continue;
    const chain = `${blocks.blockHash} ${blocks.stateRoot}`;
    const other = found.get(blocks.height);
    if (other !== undefined && other !== chain) heights.add(blocks.height);
    found.set(blocks.height, chain);
  }
  return [...heights];
}

const healthTimeoutMs = 5_000;
