import { Command, CommanderError } from 'commander';
import { DaybookError, toDaybookError } from '../base/index.ts';
import { benchCommand } from './commands/bench.ts';
import { blockCommand } from './commands/block.ts';
import { contractCommand } from './commands/contract.ts';
import { demoCommand } from './commands/demo.ts';
import { etcdCommand } from './commands/etcd.ts';
import { followCommand, followersCommand } from './commands/follow.ts';
import { identityCommand } from './commands/identity.ts';
import { logCommand } from './commands/log.ts';
import { nodeCommand } from './commands/node.ts';
import { proofCommand } from './commands/proof.ts';
import { registryCommand } from './commands/registry.ts';
import { sequencerCommand } from './commands/sequencer.ts';
import { sourceCommand } from './commands/source.ts';
import { statusCommand } from './commands/status.ts';
import { evaluateCommand, submitCommand } from './commands/submit.ts';
import { transactionCommand } from './commands/transaction.ts';
import { upCommand } from './commands/up.ts';
import { verifyCommand } from './commands/verify.ts';
import type { CliContext } from './context.ts';
import { exitCodeOf, exitCodes } from './exit-codes.ts';
import { printError } from './terminal.ts';

const exitCodesHelp = `
Exit codes:
   0  done
   1  refused by the ledger or the contract
   2  wrong command line, or a file it names is missing or wrong
   3  no gateway (or etcd, or other database) answers, or none has room now: try later
   4  outcome unknown: the transaction may still commit, look it up with \`daybook tx\`
  70  internal error

Errors go to stderr with code, message and remedy; docs/errors.md lists them all.`;

/** The command tree. */
export function createProgram(context: CliContext): Command {
  const program = new Command('daybook')
    .description('A permissioned ledger built on a shared log.')
    .addHelpText('after', exitCodesHelp);
  const commands = [
    upCommand,
    demoCommand,
    statusCommand,
    identityCommand,
    contractCommand,
    submitCommand,
    evaluateCommand,
    transactionCommand,
    logCommand,
    followCommand,
    followersCommand,
    sourceCommand,
    blockCommand,
    proofCommand,
    verifyCommand,
    nodeCommand,
    sequencerCommand,
    registryCommand,
    etcdCommand,
    benchCommand,
  ];
  for (const command of commands) program.addCommand(command(context));
  prepare(program, context);
  return program;
}

/** Commander must neither end the process nor write past our terminal. */
function prepare(command: Command, context: CliContext): void {
  const { terminal } = context;
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => terminal.out(text),
    writeErr: (text) => terminal.err(text),
    // Printed once, by runCli.
    outputError: () => undefined,
  });
  for (const child of command.commands) prepare(child, context);
}

/**
 * Runs one command line (without node and script) and returns the exit code. Never throws.
 */
export async function runCli(args: readonly string[], context: CliContext): Promise<number> {
  const json = args.includes('--json');
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.ok;
    // Commander throws this when it has shown the help of a command without its subcommand.
    if (error instanceof CommanderError && error.code === 'commander.help') return exitCodes.usage;
    const known =
      error instanceof CommanderError
        ? new DaybookError('USAGE', error.message.replace(/^error: /, ''))
        : toDaybookError(error);
    printError(context.terminal, json, known);
    return exitCodeOf(known);
  }
}
