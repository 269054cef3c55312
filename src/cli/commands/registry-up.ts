import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import { type CliContext, examples, openNetwork } from '../context.ts';
import { print } from '../terminal.ts';
import { registryFiles } from './registry-setup.ts';
import { startFromOptions, type UpOptions, withUpOptions } from './up.ts';

interface RegistryUpOptions extends UpOptions {
  readonly attach?: boolean;
}

/** `daybook registry up`: a network with a registry node on it, until SIGINT or SIGTERM. */
export function registryUp(context: CliContext): Command {
  const { terminal, io } = context;
  return withUpOptions(new Command('up'))
    .description('Start a network and its registry node, and keep both running until Ctrl-C.')
    .option('--attach', 'use the network that runs in the data directory; start none')
    .addHelpText(
      'after',
      examples(
        'daybook registry up',
        'daybook registry up --directory ./maps --port 4280 --executors 1',
        'daybook registry up --attach --json',
      ),
    )
    .action(async (options: RegistryUpOptions) => {
      // Before a network is started for nothing.
      await (await registryFiles(context, options)).read();
      const directory = resolve(context.workingDirectory, options.directory);
      const running =
        options.attach === true ? undefined : await startFromOptions(context, options);
      try {
        const { bundleContract } = await import('../../contract/index.ts');
        const { startRegistryNode } = await import('../../node/index.ts');
        const { gateways, channel, signer } = await openNetwork(context, {
          directory: options.directory,
          timeout: 30,
        });
        const registry = await startRegistryNode({
          io,
          directory,
          gateways,
          channel,
          signer,
          bundle: await bundleContract(await contractDirectory(context)),
          onEvent: (text) => terminal.err(`registry: ${text}\n`),
        });
        const { node, apiUrl, replicationUrl } = registry;
        print(terminal, options.json, { node, apiUrl, replicationUrl, gateways }, () => [
          `${node} is open`,
          `publishers and everybody  ${apiUrl}/uddi/{inquiry,publication,security,custody}`,
          `other nodes               ${replicationUrl}/uddi/replication`,
          'Ctrl-C stops it.',
        ]);
        await terminal.interrupted();
        terminal.err('stopping …\n');
        await registry.close();
      } finally {
        await running?.close();
      }
    });
}

/** The contract lies in the source tree; the compiled command in `dist/src/cli/commands`. */
async function contractDirectory({ io }: CliContext): Promise<string> {
  for (const root of ['../../../../', '../../../']) {
    const url = new URL(`${root}examples/contracts/registry`, import.meta.url);
    const directory = fileURLToPath(url);
    if ((await io.disk.readFile(`${directory}/package.json`)) !== undefined) return directory;
  }
  throw new DaybookError(
    'NOT_FOUND',
    'the registry’s contract is part of the source checkout only',
  );
}
