import { resolve } from 'node:path';
import { Command } from 'commander';
import { addressOf } from '../../model/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { print } from '../terminal.ts';
import { type Contracts, contractTable } from './status.ts';

interface DeployOptions extends NetworkOptions {
  readonly name?: string;
  readonly contractVersion?: string;
}

/** `daybook contract`: scaffold, deploy, list. */
export function contractCommand(context: CliContext): Command {
  const { terminal } = context;
  const command = new Command('contract').description('Make, deploy and list contracts.');

  command
    .command('new')
    .description('Write a small contract to start from.')
    .argument('<directory>', 'where to; must not exist or be empty')
    .option('--json', 'print JSON')
    .addHelpText('after', examples('daybook contract new ./my-contract'))
    .action(async (directory: string, options: { json?: boolean }) => {
      const { scaffoldContract } = await import('../../contract/index.ts');
      const path = resolve(context.workingDirectory, directory);
      const files = await scaffoldContract(context.io.disk, path);
      print(terminal, options.json, { directory: path, files }, () => [
        ...files.map((file) => `wrote ${file}`),
        `next: daybook contract deploy ${directory}`,
      ]);
    });

  withNetworkOptions(command.command('deploy'))
    .description('Bundle a contract into one file and put it into the log; also upgrades one.')
    .argument('<directory>', 'directory with the contract’s package.json')
    .option('--name <name>', 'name on the channel (default: the package’s)')
    .option('--contract-version <version>', 'version (default: the package’s)')
    .addHelpText(
      'after',
      examples(
        'daybook contract deploy examples/contracts/bank',
        'daybook contract deploy ./my-contract --name till --contract-version 1.0.1',
      ),
    )
    .action(async (directory: string, options: DeployOptions) => {
      // The bundler is heavy; only this command needs it.
      const { bundleContract } = await import('../../contract/index.ts');
      const bundle = await bundleContract(resolve(context.workingDirectory, directory), {
        ...(options.name === undefined ? {} : { name: options.name }),
        ...(options.contractVersion === undefined ? {} : { version: options.contractVersion }),
      });
      const { txId, position } = await withClient(context, options, ({ client }) =>
        client.deploy(bundle),
      );
      const { name, version } = bundle;
      const address = addressOf(position);
      const bytes = Buffer.byteLength(bundle.source);
      print(terminal, options.json, { name, version, bytes, txId, position, address }, () => [
        `deployed ${name} ${version} (${bytes} bytes) at address ${address}`,
        `txId ${txId}`,
      ]);
    });

  withNetworkOptions(command.command('list'))
    .description('List the deployed contracts.')
    .addHelpText('after', examples('daybook contract list', 'daybook contract list --json'))
    .action(async (options: NetworkOptions) => {
      const { contracts } = await withClient(
        context,
        options,
        async ({ client }) => (await client.get('contracts')) as Contracts,
      );
      print(terminal, options.json, contracts, () => contractTable(contracts));
    });
  return command;
}
