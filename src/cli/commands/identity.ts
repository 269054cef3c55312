import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { IdentityRole } from '../../node/index.ts';
import { type CliContext, type CommonOptions, examples, withCommonOptions } from '../context.ts';
import {
  type IdentityDescription,
  type NetworkIdentities,
  networkIdentities,
} from '../identities.ts';
import { print, table } from '../terminal.ts';

interface CreateOptions extends CommonOptions {
  readonly msp?: string;
  readonly role: IdentityRole;
  readonly attribute?: Readonly<Record<string, string>>;
}

/** `daybook identity`: the development certificate authority. */
export function identityCommand(context: CliContext): Command {
  const { terminal } = context;
  const command = new Command('identity').description(
    'Make and show development identities (X.509 certificates, ECDSA P-256). Not for production: ' +
      'the authority’s key is a plain file.',
  );
  const identities = (options: CommonOptions): NetworkIdentities =>
    networkIdentities(context.io, resolve(context.workingDirectory, options.directory));

  withCommonOptions(command.command('create'))
    .description('Issue an identity; makes the authority of its MSP when there is none.')
    .argument('<name>', 'name of the identity and of its files')
    .option('--msp <id>', 'MSP that issues it (default: the network’s own)')
    .addOption(
      new Option('--role <role>', 'what it is in its organisation')
        .choices(['admin', 'client', 'peer'])
        .default('client'),
    )
    .option('--attribute <name=value>', 'attribute for contracts to read; repeatable', attribute)
    .addHelpText(
      'after',
      examples(
        'daybook identity create alice',
        'daybook identity create bob --msp Org2MSP --role admin',
        'daybook identity create carol --attribute branch=7 --json',
      ),
    )
    .action(async (name: string, options: CreateOptions) => {
      const store = identities(options);
      const created = await store.create(name, options.msp, {
        role: options.role,
        ...(options.attribute === undefined ? {} : { attributes: options.attribute }),
      });
      const description = await store.describe(created);
      print(terminal, options.json, description, () => describe(description));
    });

  withCommonOptions(command.command('list'))
    .description('List the identities of the data directory.')
    .addHelpText('after', examples('daybook identity list', 'daybook identity list --json'))
    .action(async (options: CommonOptions) => {
      const all = await identities(options).list();
      print(terminal, options.json, all, () =>
        all.length === 0
          ? 'no identities; make one with `daybook identity create NAME`'
          : table([
              ['NAME', 'MSP', 'VALID TO', 'SUBJECT'],
              ...all.map((one) => [one.name, one.mspId, one.validTo.slice(0, 10), one.subject]),
            ]),
      );
    });

  withCommonOptions(command.command('show'))
    .description('Show what an identity’s certificate says, and where its files are.')
    .argument('<name>')
    .addHelpText('after', examples('daybook identity show alice'))
    .action(async (name: string, options: CommonOptions) => {
      const description = await identities(options).describe(name);
      print(terminal, options.json, description, () => describe(description));
    });
  return command;
}

function describe(identity: IdentityDescription): string[] {
  return table([
    ['name', identity.name],
    ['MSP', identity.mspId],
    ['subject', identity.subject],
    ['valid', `${identity.validFrom} – ${identity.validTo}`],
    ['SHA-256', identity.fingerprint],
    ['certificate', identity.certificateFile],
    ['private key', identity.keyFile],
  ]);
}

function attribute(
  text: string,
  previous: Readonly<Record<string, string>> | undefined,
): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must have the form name=value.');
  return { ...previous, [text.slice(0, at)]: text.slice(at + 1) };
}
