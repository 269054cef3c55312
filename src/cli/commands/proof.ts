import { resolve } from 'node:path';
import { Command } from 'commander';
import { DaybookError, isDaybookError } from '../../base/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { print } from '../terminal.ts';

interface ProofOptions extends NetworkOptions {
  readonly out?: string;
}

/** Pause between two questions for something that is in no block yet. */
const pauseMs = 200;

/** `daybook proof`: fetches what `daybook verify` checks offline. */
export function proofCommand(context: CliContext): Command {
  const command = new Command('proof').description(
    'Fetch proofs that can be checked offline, by `daybook verify`.',
  );
  withProofOptions(command.command('tx'))
    .description(
      'Fetch the receipt of a transaction: it is in the log, and what replay found. Waits for the ' +
        'end of its block.',
    )
    .argument('<txId>', 'transaction id, 64 hexadecimal digits')
    .addHelpText('after', examples('daybook proof tx 6f0c… --out receipt.json'))
    .action((txId: string, options: ProofOptions) =>
      fetchProof(context, options, 'receipt', `transactions/${txId}/receipt`, txId),
    );
  withProofOptions(command.command('key'))
    .description('Fetch a proof of what a key holds after the newest block, or that it is absent.')
    .argument('<contract>')
    .argument('<key>')
    .addHelpText('after', examples('daybook proof key bank account/alice --out alice.json'))
    .action((contract: string, key: string, options: ProofOptions) => {
      const query = new URLSearchParams({ contract, key });
      return fetchProof(context, options, 'key', `proof?${query.toString()}`);
    });
  return command;
}

function withProofOptions(command: Command): Command {
  return withNetworkOptions(command).option(
    '-o, --out <file>',
    'where to write it (default: standard output)',
  );
}

async function fetchProof(
  context: CliContext,
  options: ProofOptions,
  kind: 'receipt' | 'key',
  path: string,
  txId?: string,
): Promise<void> {
  const proof = await withClient(context, options, async ({ client }) => {
    const { clock, timers } = context.io;
    const endMs = clock.monotonicMs() + options.timeout * 1000;
    let known = txId === undefined;
    for (;;) {
      try {
        return await client.get(path);
      } catch (error) {
        if (!isDaybookError(error, 'TRANSACTION_UNKNOWN', 'PROOF_NOT_READY')) throw error;
        // It is in no block; or there is no such transaction, and no block will bring it.
        known ||= txId !== undefined && (await client.status(txId)) !== undefined;
        if (!known) throw error;
        if (clock.monotonicMs() > endMs) {
          throw new DaybookError('TIMEOUT', 'no block brought it in time', { cause: error });
        }
      }
      await new Promise<void>((done) => {
        timers.after(pauseMs, done, { keepAlive: true });
      });
    }
  });
  const text = `${JSON.stringify(proof)}\n`;
  if (options.out === undefined) {
    context.terminal.out(text);
    return;
  }
  const { out } = options;
  await context.io.disk.writeFile(resolve(context.workingDirectory, out), Buffer.from(text));
  print(context.terminal, options.json, { file: out }, () => [
    out,
    `Check it with: daybook verify ${kind} ${out} --trust FILE`,
  ]);
}
