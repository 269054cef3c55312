import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import { type CliContext, examples } from '../context.ts';

interface BenchProgram {
  readonly runBench: (args: readonly string[]) => Promise<void>;
}

/** `daybook bench`: the benches of a source checkout; the published package does not carry them. */
export function benchCommand({ io }: CliContext): Command {
  return new Command('bench')
    .description('Run a bench of the source checkout: commit, soak, …')
    .argument('[arguments...]', 'name of the bench and its options')
    .allowUnknownOption()
    .helpOption(false)
    .addHelpText('after', examples('daybook bench commit --json', 'daybook bench soak --json'))
    .action(async (args: readonly string[]) => {
      const program = new URL('../../../bench/main.js', import.meta.url);
      if ((await io.disk.readFile(fileURLToPath(program))) === undefined) {
        throw new DaybookError(
          'NOT_FOUND',
          'the benches are part of the source checkout only: clone the repository and run ' +
            '`npm run bench -- commit`',
        );
      }
      const { runBench } = (await import(program.href)) as BenchProgram;
      await runBench(args);
    });
}
