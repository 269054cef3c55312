import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import { type CliContext, examples } from '../context.ts';

/** `daybook bench`: the benches of a source checkout; the published package does not carry them. */
export function benchCommand({ io }: CliContext): Command {
  const command = new Command('bench');
  return command
    .description('Run a bench of the source checkout.')
    .argument('<bench>', 'name of the bench: commit, soak, …')
    .option('--json', 'print one JSON object')
    .allowUnknownOption()
    .allowExcessArguments()
    .addHelpText(
      'after',
      `\nOther options are the bench’s own.\n${examples('daybook bench commit --json')}`,
    )
    .action(async (_bench: string, { json }: { json?: boolean }) => {
      const program = new URL('../../../bench/main.js', import.meta.url);
      const path = fileURLToPath(program);
      if ((await io.disk.readFile(path)) === undefined) {
        throw new DaybookError(
          'NOT_FOUND',
          'the benches are part of the source checkout only: clone the repository and run ' +
            '`npm run bench -- commit`',
        );
      }
      // A program of its own, which takes its arguments from the command line.
      process.argv = [
        process.execPath,
        path,
        ...command.args,
        ...(json === true ? ['--json'] : []),
      ];
      await import(program.href);
    });
}
