import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDaybookError, toDaybookError } from '../../src/base/index.ts';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { signerFromPem } from '../../src/model/index.ts';
import { startNetwork } from '../../src/node/index.ts';
import { help, type Options, readOptions } from './options.ts';
import type { BankData } from './records.ts';
import { type RunResult, runStandingOrders } from './run.ts';
import { sampleData } from './sample.ts';
import { readAccounts, readOrders } from './tsv.ts';

const progress = (line: string): void => void process.stderr.write(`${line}\n`);

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = readOptions(args);
    if (options.help) {
      process.stdout.write(help);
      return 0;
    }
    const data = await readData(options);
    const result = await (options.gateway.length > 0
      ? runOnGateway(options, data)
      : runOnOwnNetwork(options, data));
    process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : report(result));
    return result.conserved ? 0 : 1;
  } catch (error) {
    const known = toDaybookError(error);
    process.stderr.write(`${known.code}: ${known.message}\n`);
    if (known.code === 'INTERNAL' && known.cause instanceof Error) progress(`${known.cause.stack}`);
    return isDaybookError(known, 'USAGE', 'MALFORMED', 'NOT_FOUND') ? 2 : 1;
  }
}

async function readData({ accounts, orders, sampleAccounts }: Options): Promise<BankData> {
  if (accounts === undefined || orders === undefined) {
    progress(`no files given: a made-up bank of ${sampleAccounts} accounts`);
    return sampleData(sampleAccounts);
  }
  return { accounts: await readAccounts(accounts), orders: await readOrders(orders) };
}

async function runOnOwnNetwork(options: Options, data: BankData): Promise<RunResult> {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-standing-orders-'));
  try {
    progress(`starting a network with ${options.executors} executors`);
    const { executors } = options;
    const network = await startNetwork({ directory, executors, httpPort: 0, sequencer: true });
    try {
      const { gateways, channel, signer } = network;
      const client = await connect({ gateways, channel, signer });
      return await withBank(client, (bank) =>
        runStandingOrders(bank, data, {
          months: options.months,
          prefix: '',
          onProgress: progress,
        }),
      );
    } finally {
      await network.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function runOnGateway(options: Options, data: BankData): Promise<RunResult> {
  const certificate = await readFile(options.certificate, 'utf8');
  const key = await readFile(options.key, 'utf8');
  const signer = signerFromPem({ mspId: options.msp, certificate }, key);
  const client = await connect({ gateways: options.gateway, channel: options.channel, signer });
  // The ledger may hold accounts of an earlier run.
  const prefix = `run-${randomBytes(6).toString('hex')}-`;
  return withBank(client, (bank) =>
    runStandingOrders(bank, data, { months: options.months, prefix, onProgress: progress }),
  );
}

/** Deploys the sample bank, does `work`, closes the client. */
async function withBank<T>(client: Client, work: (client: Client) => Promise<T>): Promise<T> {
  try {
    const { position } = await client.deploy(await bundleContract(sampleContract()));
    await client.waitFor(position);
    return await work(client);
  } finally {
    await client.close();
  }
}

/** The contract lies in the source tree; this program may run from `dist`. */
function sampleContract(): string {
  const compiled = import.meta.url.includes('/dist/examples/');
  const path = `${compiled ? '../../../' : '../../'}examples/contracts/bank`;
  return fileURLToPath(new URL(path, import.meta.url));
}

function report(result: RunResult): string {
  const lines = [
    `${result.committed} payments made, ${result.refused} refused, in ${result.seconds} s ` +
      `(${result.tps} a second)`,
    `${result.refusals.length} orders were refused at least once:`,
    ...result.refusals
      .slice(0, 5)
      .map(
        ({ order, account, times, reason }) =>
          `  order ${order} of account ${account}: ${times} times, first: ${reason}`,
      ),
    ...(result.refusals.length > 5 ? ['  …'] : []),
    result.conserved
      ? `no money was made or lost: ${result.totalAfter} before and after`
      : `MONEY WAS NOT CONSERVED: ${result.totalBefore} before, ${result.totalAfter} after`,
    `digest of all balances ${result.digest}`,
  ];
  return lines.map((line) => `${line}\n`).join('');
}
