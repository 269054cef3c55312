import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { DaybookError } from '../../base/index.ts';
import type { RegistryFiles } from '../../node/index.ts';
import {
  type CliContext,
  type CommonOptions,
  examples,
  wholeNumber,
  withCommonOptions,
} from '../context.ts';
import { print } from '../terminal.ts';

interface InitOptions extends CommonOptions {
  readonly host: string;
  readonly apiPort: number;
  readonly replicationPort: number;
  readonly join?: readonly string[];
}

/** The registry's files in the data directory. */
export async function registryFiles(
  context: CliContext,
  options: CommonOptions,
): Promise<RegistryFiles> {
  const { RegistryFiles: Files } = await import('../../node/index.ts');
  return new Files(context.io, resolve(context.workingDirectory, options.directory));
}

/** Commands that only write the registry's files. */
export function registrySetup(context: CliContext): Command[] {
  return [initCommand(context), peerCommand(context), publisherCommand(context)];
}

function initCommand(context: CliContext): Command {
  return withCommonOptions(new Command('init'))
    .description('Set a registry node up: its authority, its certificate, its configuration.')
    .argument('<node>', 'its id, uddi:<domain>:<name>; keys under uddi:<domain>: are its own')
    .option('--host <address>', 'address it listens on', '127.0.0.1')
    .addOption(portOption('--api-port <number>', 'port for publishers and everybody', 8470))
    .addOption(portOption('--replication-port <number>', 'port for other nodes', 8471))
    .option('--join <node...>', 'join the federation of these nodes instead of founding one')
    .addHelpText(
      'after',
      examples(
        'daybook registry init uddi:books.example:node',
        'daybook registry init uddi:maps.example:node --directory ./maps --api-port 8480 --replication-port 8481 --join uddi:books.example:node',
      ),
    )
    .action(async (node: string, options: InitOptions) => {
      const { host, apiPort, replicationPort } = options;
      const files = await registryFiles(context, options);
      const authorityFile = await files.init(
        node,
        { api: { host, port: apiPort }, replication: { host, port: replicationPort } },
        options.join,
      );
      const { directory } = files;
      print(context.terminal, options.json, { node, directory, authorityFile }, () => [
        `${node} is set up in ${directory}`,
        `give ${authorityFile} to the other nodes, and take theirs with \`daybook registry peer\``,
      ]);
    });
}

function peerCommand(context: CliContext): Command {
  return withCommonOptions(new Command('peer'))
    .description('Make another node known: where it listens, and who issues its certificate.')
    .argument('<node>', 'its id')
    .requiredOption('--authority <file>', 'certificate of its authority (PEM)')
    .option('--url <url>', 'https://host:port; without it, it is heard of only through others')
    .addHelpText(
      'after',
      examples(
        'daybook registry peer uddi:maps.example:node --url https://maps.example:8481 --authority maps.pem',
      ),
    )
    .action(
      async (
        node: string,
        options: CommonOptions & { readonly authority: string; readonly url?: string },
      ) => {
        const { io, workingDirectory, terminal } = context;
        const path = resolve(workingDirectory, options.authority);
        const bytes = await io.disk.readFile(path);
        if (bytes === undefined) {
          throw new DaybookError('NOT_FOUND', `no file ${path}`, { details: { path } });
        }
        const files = await registryFiles(context, options);
        await files.setPeer(node, options.url, bytes.toString('utf8'));
        const { peers } = await files.read();
        print(terminal, options.json, { peers }, () => [
          `${node} is known; a node that runs hears of it when it is started again`,
        ]);
      },
    );
}

function publisherCommand(context: CliContext): Command {
  return withCommonOptions(new Command('publisher'))
    .description('Add a publisher, or give one another password.')
    .argument('<name>', 'name for get_authToken')
    .option('--password <text>', 'password (default: a new one, printed once)')
    .addHelpText('after', examples('daybook registry publisher ann'))
    .action(async (name: string, options: CommonOptions & { readonly password?: string }) => {
      const made = options.password === undefined;
      const password = options.password ?? context.io.random.bytes(15).toString('base64url');
      const files = await registryFiles(context, options);
      await files.read();
      await files.setAccount(name, password);
      print(context.terminal, options.json, { name, ...(made ? { password } : {}) }, () =>
        made ? `${name} publishes with the password ${password}` : `${name} may publish`,
      );
    });
}

function portOption(flags: string, description: string, otherwise: number): Option {
  return new Option(flags, `${description}; 0: any`)
    .argParser(wholeNumber(0, 65_535))
    .default(otherwise);
}
