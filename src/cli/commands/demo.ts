import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { DaybookError, isDaybookError } from '../../base/index.ts';
import { type Client, connect } from '../../client/index.ts';
import { addressOf, type Position, type Signer } from '../../model/index.ts';
import { type CliContext, examples } from '../context.ts';
import { networkIdentities } from '../identities.ts';
import { readNetworkFile, writeNetworkFile } from '../network-file.ts';
import type { Contracts } from './status.ts';
import { type RunningNetwork, startFromOptions, type UpOptions, withUpOptions } from './up.ts';

/** Who signs the demo's transactions, and afterwards those of the command line. */
const developer = 'developer';
const contract = 'bank';
/** Pairs of accounts between which money moves at the same time. */
const burstPairs = 1_000;

interface DemoReport {
  readonly directory: string;
  readonly channel: string;
  readonly gateways: readonly string[];
  readonly identity: string;
  readonly contract: {
    readonly name: string;
    readonly version: string;
    readonly deployed: boolean;
  };
  readonly transfer: { readonly txId: string; readonly position: number; readonly ms: number };
  readonly refused: { readonly code: string; readonly message: string };
  readonly burst: { readonly transfers: number; readonly ms: number; readonly tps: number };
  readonly balances: Readonly<Record<string, string>>;
}

/** `daybook demo`: what `npm start` runs. */
export function demoCommand(context: CliContext): Command {
  const { terminal } = context;
  return withUpOptions(new Command('demo'))
    .description(
      'Start a network, deploy the sample bank, commit transactions, show what happened, and ' +
        'keep running until Ctrl-C. May be run again on the same directory.',
    )
    .addHelpText('after', examples('daybook demo', 'daybook demo --directory /tmp/try --port 0'))
    .action(async (options: UpOptions) => {
      const say = (text = ''): void => {
        if (!options.json) terminal.out(`${text}\n`);
      };
      say('Starting a Daybook network on this machine …');
      const running = await startFromOptions(context, options);
      try {
        const report = await demonstrate(context, running, say);
        if (options.json) terminal.out(`${JSON.stringify(report)}\n`);
        await terminal.interrupted();
        terminal.err('stopping …\n');
      } finally {
        await running.close();
      }
    });
}

async function demonstrate(
  context: CliContext,
  running: RunningNetwork,
  say: (text?: string) => void,
): Promise<DemoReport> {
  const { network, directory } = running;
  const { channel, gateways } = network;
  say(`  channel ${channel}, data in ${directory}`);
  for (const url of gateways) say(`  executor with gateway ${url}`);

  const signer = await enrol(context, running);
  say(`\nEnrolled the identity ${developer} of ${signer.identity.mspId}`);
  const client = await connect({ gateways, channel, signer });
  try {
    const deployed = await deployBank(context, client);
    say(
      deployed.deployed
        ? `Deployed the contract ${contract} ${deployed.version}: it is in the log, every executor runs it`
        : `The contract ${contract} ${deployed.version} is deployed already`,
    );
    await openAccount(client, 'alice', 'Alice', '100.00');
    await openAccount(client, 'bob', 'Bob', '50.00');
    const before = await balances(client);
    say(`\nBalances  alice ${before.alice}  bob ${before.bob}`);

    const transfer = await timedTransfer(context, client, before);
    say(
      `${transfer.from} pays ${transfer.to} 12.50: committed at address ` +
        `${addressOf(transfer.position)} in ${transfer.ms.toFixed(1)} ms`,
    );
    const refused = await refusedTransfer(client);
    say(`bob pays alice 1000000: ${refused.code}, ${refused.message}`);

    const burst = await burstOf(context, client);
    say(
      `${burst.transfers} customers pay a shop each, all at once: committed in ` +
        `${burst.ms.toFixed(0)} ms, ${Math.round(burst.tps)} a second`,
    );
    const after = await balances(client);
    say(`Balances  alice ${after.alice}  bob ${after.bob}`);
    for (const line of nextSteps(gateways[0] ?? '')) say(line);
    return {
      directory,
      channel,
      gateways,
      identity: developer,
      contract: { name: contract, ...deployed },
      transfer: { txId: transfer.txId, position: transfer.position, ms: transfer.ms },
      refused,
      burst,
      balances: after,
    };
  } finally {
    await client.close();
  }
}

async function enrol(context: CliContext, { directory }: RunningNetwork): Promise<Signer> {
  const identities = networkIdentities(context.io, directory);
  try {
    await identities.create(developer, undefined, {});
  } catch (error) {
    // It is there since the demo ran last.
    if (!isDaybookError(error, 'INVALID_ARGUMENT')) throw error;
  }
  const file = await readNetworkFile(context.io, directory);
  if (file !== undefined) {
    await writeNetworkFile(context.io, directory, { ...file, identity: developer });
  }
  return identities.load(developer);
}

async function deployBank(
  context: CliContext,
  client: Client,
): Promise<{ version: string; deployed: boolean }> {
  const { bundleContract } = await import('../../contract/index.ts');
  const bundle = await bundleContract(await sampleContract(context));
  const { contracts } = (await client.get('contracts')) as Contracts;
  const { version } = bundle;
  if (contracts.some((one) => one.name === contract && one.version === version)) {
    return { version, deployed: false };
  }
  const { position } = await client.deploy(bundle);
  await client.waitFor(position);
  return { version, deployed: true };
}

/** The sample lies in the source tree; the compiled command in `dist/src/cli/commands`. */
async function sampleContract({ io }: CliContext): Promise<string> {
  for (const root of ['../../../../', '../../../']) {
    const directory = fileURLToPath(new URL(`${root}examples/contracts/bank`, import.meta.url));
    if ((await io.disk.readFile(`${directory}/package.json`)) !== undefined) return directory;
  }
  throw new DaybookError('NOT_FOUND', 'the sample contract is part of the source checkout only');
}

async function openAccount(
  client: Client,
  account: string,
  owner: string,
  balance: string,
): Promise<void> {
  try {
    await client.submit(contract, 'open', [account, owner, balance]);
  } catch (error) {
    // The account is open since the demo ran last.
    if (!isDaybookError(error, 'CONTRACT_REJECTED')) throw error;
  }
}

async function balances(client: Client): Promise<Record<string, string>> {
  const of = async (account: string): Promise<string> =>
    (await client.evaluate(contract, 'balance', [account])).text();
  return { alice: await of('alice'), bob: await of('bob') };
}

async function timedTransfer(
  { io }: CliContext,
  client: Client,
  before: Readonly<Record<string, string>>,
): Promise<{ from: string; to: string; txId: string; position: Position; ms: number }> {
  // The richer pays, so that the demo can be run again and again.
  const rich = Number(before.alice) >= Number(before.bob);
  const [from, to] = rich ? ['alice', 'bob'] : ['bob', 'alice'];
  const started = io.clock.monotonicMs();
  const { txId, position } = await client.submit(contract, 'transfer', [from, to, '12.50']);
  return { from, to, txId, position, ms: io.clock.monotonicMs() - started };
}

async function refusedTransfer(client: Client): Promise<{ code: string; message: string }> {
  try {
    await client.submit(contract, 'transfer', ['bob', 'alice', '1000000']);
  } catch (error) {
    if (!isDaybookError(error, 'CONTRACT_REJECTED')) throw error;
    return { code: error.code, message: error.message };
  }
  throw new DaybookError('INTERNAL', 'the bank paid what nobody has');
}

async function burstOf(
  { io }: CliContext,
  client: Client,
): Promise<{ transfers: number; ms: number; tps: number }> {
  const pairs = Array.from({ length: burstPairs }, (_, index) => index + 1);
  await Promise.all(
    pairs.flatMap((pair) => [
      openAccount(client, `customer-${pair}`, 'Customer', '100.00'),
      openAccount(client, `shop-${pair}`, 'Shop', '0'),
    ]),
  );
  const started = io.clock.monotonicMs();
  await Promise.all(
    pairs.map((pair) =>
      client.submit(contract, 'transfer', [`customer-${pair}`, `shop-${pair}`, '0.01']),
    ),
  );
  const ms = io.clock.monotonicMs() - started;
  return { transfers: burstPairs, ms, tps: (burstPairs / ms) * 1000 };
}

function nextSteps(gateway: string): string[] {
  return [
    '',
    'The network keeps running; Ctrl-C stops it. In another terminal:',
    '',
    '  npx daybook status',
    '  npx daybook submit bank transfer alice bob 5',
    '  npx daybook evaluate bank balance bob',
    '  npx daybook log tail',
    '  npx daybook contract new ./my-contract && npx daybook contract deploy ./my-contract',
    '',
    `HTTP API: ${gateway}/openapi.json · guides: docs/index.md · all commands: npx daybook --help`,
  ];
}
