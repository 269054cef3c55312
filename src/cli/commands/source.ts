import { Command } from 'commander';
import {
  installSource,
  removeSource,
  type SourceConfig,
  startCapture,
} from '../../replication/index.ts';
import {
  type CliContext,
  type CommonOptions,
  examples,
  type NetworkOptions,
  withClient,
  withCommonOptions,
  withNetworkOptions,
} from '../context.ts';
import { loadExport } from '../load-module.ts';
import { counted, print } from '../terminal.ts';

interface InstallOptions extends CommonOptions {
  readonly config: string;
  readonly takeover: boolean;
}

const configHelp = 'module that exports `source`; see docs/followers.md';

/** `daybook source`: changes of an outside database go into the ledger. */
export function sourceCommand(context: CliContext): Command {
  const command = new Command('source').description(
    'Bring the changes of a PostgreSQL database into the ledger.',
  );
  const load = async (file: string): Promise<SourceConfig> =>
    (await loadExport<SourceConfig>(context.workingDirectory, file, 'source')).value;

  withCommonOptions(command.command('install'))
    .description('Put an outbox and triggers into the database, and take over the rows it has.')
    .requiredOption('--config <file>', configHelp)
    .option('--no-takeover', 'leave out rows that are there already')
    .addHelpText('after', examples('daybook source install --config catalog.ts'))
    .action(async (options: InstallOptions) => {
      const { name, connection, tables } = await load(options.config);
      const { takeover } = options;
      const taken = await installSource({ source: name, connection, tables, takeover });
      print(context.terminal, options.json, { source: name, rowsTakenOver: taken }, () => [
        `source ${name} is installed, ${counted(taken, 'row')} taken over`,
        `bring them into the ledger with: daybook source run --config ${options.config}`,
      ]);
    });

  withCommonOptions(command.command('remove'))
    .description('Take the triggers off again.')
    .requiredOption('--config <file>', configHelp)
    .addHelpText('after', examples('daybook source remove --config catalog.ts'))
    .action(async (options: InstallOptions) => {
      const { name, connection, tables } = await load(options.config);
      await removeSource({ source: name, connection, tables });
      print(context.terminal, options.json, { source: name }, () => `source ${name} is removed`);
    });

  withNetworkOptions(command.command('run'))
    .description('Bring the outbox into the ledger, until Ctrl-C.')
    .requiredOption('--config <file>', configHelp)
    .addHelpText('after', examples('daybook source run --config catalog.ts'))
    .action(async (options: NetworkOptions & { readonly config: string }) => {
      const { name, connection, contract = 'capture' } = await load(options.config);
      const { io, terminal } = context;
      const captured = await withClient(context, options, async ({ client }) => {
        const capture = startCapture({
          io,
          connection,
          source: name,
          contract,
          ledger: client,
          onEvent: (text) => terminal.err(`${name}: ${text}\n`),
        });
        terminal.err(`capturing ${name}\n`);
        void terminal.interrupted().then(() => capture.stop());
        await capture.ended;
        return capture.captured;
      });
      print(
        terminal,
        options.json,
        { source: name, captured },
        () => `captured ${counted(captured, 'change')}`,
      );
    });
  return command;
}
