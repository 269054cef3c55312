import { Command } from 'commander';
import { type AdminOptions, withAdmin, withAdminOptions } from '../cluster-options.ts';
import { type CliContext, examples } from '../context.ts';
import { print } from '../terminal.ts';

/** `daybook sequencer`: who hands out the log's addresses. */
export function sequencerCommand(context: CliContext): Command {
  const command = new Command('sequencer').description(
    'The sequencer of a network of many machines.',
  );
  withAdminOptions(command.command('move'))
    .argument('[node]', 'node that is to lead (default: the next one)')
    .description('Move the sequencer to another node while the network is in use.')
    .addHelpText(
      'after',
      examples('daybook sequencer move', 'daybook sequencer move executor-2 --json'),
    )
    .action((node: string | undefined, options: AdminOptions) =>
      withAdmin(context, options, async (admin) => {
        const before = await admin.leader();
        await admin.moveSequencer(node);
        const from = before?.node ?? null;
        print(context.terminal, options.json, { from, to: node ?? null }, () => [
          `${from ?? 'the sequencer'} has handed over${node === undefined ? '' : ` to ${node}`}`,
        ]);
      }),
    );
  return command;
}
