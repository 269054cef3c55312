import { Argument, Command, Option } from 'commander';
import { DaybookError } from '../../base/index.ts';
import type { Client } from '../../client/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  wholeNumber,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { print, table } from '../terminal.ts';
import { registryFiles } from './registry-setup.ts';

const contract = 'registry';

/** Commands of the operator to a node whose network runs. */
export function registryOperations(context: CliContext): Command[] {
  const order = (
    name: string,
    description: string,
    example: string,
    functionName: string,
    said: (argument: string) => string,
    check?: (context: CliContext, options: NetworkOptions, argument: string) => Promise<void>,
  ): Command =>
    withNetworkOptions(new Command(name))
      .description(description)
      .addArgument(argumentOf(name))
      .addHelpText('after', examples(example))
      .action(async (given: string | number, options: NetworkOptions) => {
        const argument = String(given);
        await check?.(context, options, argument);
        await withClient(context, options, async ({ client }) => {
          const result = await submit(client, functionName, argument);
          const value = { [name]: argument, ...(result === null ? {} : { change: result }) };
          print(context.terminal, options.json, value, () => said(argument));
        });
      });
  return [
    statusCommand(context),
    order(
      'admit',
      'Take a node into the federation: from now on its acknowledgements are waited for.',
      'daybook registry admit uddi:maps.example:node',
      'admit',
      (node) => `${node} is a member`,
      checkKnown,
    ),
    order(
      'resign',
      'Leave the federation for good; <heir> takes over what this node has.',
      'daybook registry resign uddi:books.example:node',
      'resign',
      (heir) => `this node has left; ${heir} has what it had`,
    ),
    order(
      'withdraw',
      'Give up a change that waits for other nodes.',
      'daybook registry withdraw 17',
      'withdraw',
      (usn) => `change ${usn} is withdrawn`,
    ),
    order(
      'correct',
      'Replace a change that another node refused by what stands now.',
      'daybook registry correct 17',
      'correct',
      (usn) => `change ${usn} is corrected`,
    ),
    expelCommand(context),
    compactCommand(context),
  ];
}

function argumentOf(name: string): Argument {
  switch (name) {
    case 'resign':
      return new Argument('<heir>', 'id of the member that takes over');
    case 'withdraw':
    case 'correct':
      return new Argument('<usn>', 'number of the change at this node').argParser(
        wholeNumber(1, Number.MAX_SAFE_INTEGER),
      );
    default:
      return new Argument('<node>', 'id of the node');
  }
}

/**
 * Everybody waits for a member's acknowledgements, so one that was misspelt would stop changes that
 * need them.
 *
 * @throws {DaybookError} `NOT_FOUND` when the registry here does not know the node's authority.
 */
async function checkKnown(
  context: CliContext,
  options: NetworkOptions,
  node: string,
): Promise<void> {
  // With --gateway the registry may be on another machine.
  if (options.gateway !== undefined) return;
  const { peers } = await (await registryFiles(context, options)).read();
  if (peers.some((peer) => peer.node === node)) return;
  throw new DaybookError(
    'NOT_FOUND',
    `${node} is not known here: make it known first, with \`daybook registry peer\``,
    { details: { node } },
  );
}

function expelCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('expel'))
    .description('Propose that the others go on without a member that is gone for good.')
    .argument('<node>', 'the lost member')
    .requiredOption('--heir <node>', 'who takes over what it had')
    .option('--vouched', 'you know that it is dead: needs no majority')
    .addHelpText(
      'after',
      examples('daybook registry expel uddi:maps.example:node --heir uddi:books.example:node'),
    )
    .action(
      (
        node: string,
        options: NetworkOptions & { readonly heir: string; readonly vouched?: boolean },
      ) =>
        withClient(context, options, async ({ client }) => {
          const vouched = String(options.vouched ?? false);
          const change = await submit(client, 'expel', node, options.heir, vouched);
          print(context.terminal, options.json, { expel: node, change }, () => [
            `proposed; it ends when all who stay have answered: \`daybook registry status\``,
          ]);
        }),
    );
}

interface Compacted {
  readonly dropped: number;
  readonly emptied: number;
  readonly tombstonesPurged: number;
  readonly next?: number;
}

const compactRows = 1_000;

function compactCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('compact'))
    .description('Make the journal smaller, and ask all members how far they are.')
    .addOption(
      new Option('--grace <days>', 'how long contents of deleted entities are kept at least')
        .argParser(wholeNumber(0, 36_500))
        .default(30),
    )
    .addHelpText('after', examples('daybook registry compact', 'daybook registry compact --json'))
    .action((options: NetworkOptions & { readonly grace: number }) =>
      withClient(context, options, async ({ client }) => {
        const graceMs = String(options.grace * 24 * 3_600_000);
        const sum = { dropped: 0, emptied: 0, tombstonesPurged: 0 };
        for (let from: number | undefined = 0; from !== undefined; ) {
          const range: [string, string] = [String(compactRows), String(from)];
          const part = (await submit(client, 'compact', graceMs, ...range)) as Compacted;
          sum.dropped += part.dropped;
          sum.emptied += part.emptied;
          sum.tombstonesPurged += part.tombstonesPurged;
          from = part.next;
        }
        await submit(client, 'requestAcknowledgement');
        print(context.terminal, options.json, sum, () => [
          `${sum.dropped} records dropped, ${sum.emptied} emptied, ` +
            `${sum.tombstonesPurged} contents of deleted entities purged`,
          'what others acknowledge from now on goes the next time',
        ]);
      }),
    );
}

interface Progress {
  readonly node: string;
  readonly heir?: string;
  readonly acknowledged: Readonly<Record<string, number>>;
}

interface Troubles {
  readonly outcomes: readonly {
    readonly change: { readonly usn: number };
    readonly key: string;
    readonly state: string;
    readonly by?: string;
    readonly reason?: string;
  }[];
  readonly quarantined: readonly {
    readonly origin: string;
    readonly usn: number;
    readonly reason: string;
  }[];
}

function statusCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('status'))
    .description('Show members, how far they are, and what needs an operator.')
    .addHelpText('after', examples('daybook registry status', 'daybook registry status --json'))
    .action((options: NetworkOptions) =>
      withClient(context, options, async ({ client }) => {
        const [self, marks, members, expulsions, troubles] = (await Promise.all(
          ['self', 'highWaterMarks', 'progress', 'expulsions', 'troubles'].map((name) =>
            client.evaluate(contract, name).then((result) => result.json()),
          ),
        )) as [
          { readonly node: string; readonly member: boolean } | null,
          Readonly<Record<string, number>>,
          readonly Progress[],
          readonly { readonly node: string }[],
          Troubles,
        ];
        const value = { ...self, marks, members, expulsions, ...troubles };
        print(context.terminal, options.json, value, () => {
          if (self === null) return ['no registry was founded here'];
          const going = new Set(expulsions.map(({ node }) => node));
          const rows = members.map(({ node, heir, acknowledged }) => [
            node,
            heir !== undefined
              ? `left to ${heir}`
              : going.has(node)
                ? 'is being expelled'
                : 'member',
            String(marks[node] ?? '-'),
            node === self.node ? '' : String(acknowledged[self.node] ?? 0),
          ]);
          const ownMark = marks[self.node] ?? 0;
          return [
            `${self.node}${self.member ? '' : ' is not a member (yet)'}`,
            '',
            ...table([['node', 'state', 'known to', `acknowledged of ${ownMark}`], ...rows]),
            ...troubles.outcomes.map(
              ({ change, key, state, by, reason }) =>
                `change ${change.usn} of ${key}: ${state}${by === undefined ? '' : `, ${by}: ${reason}`}`,
            ),
            ...troubles.quarantined.map(
              ({ origin, usn, reason }) => `${origin}#${usn} has no effect: ${reason}`,
            ),
          ];
        });
      }),
    );
}

async function submit(
  client: Client,
  functionName: string,
  ...args: readonly string[]
): Promise<unknown> {
  const text = (await client.submit(contract, functionName, args)).text();
  return text === '' ? null : JSON.parse(text);
}
