import { Command } from 'commander';
import { type AdminOptions, withAdmin, withAdminOptions } from '../cluster-options.ts';
import { type CliContext, examples } from '../context.ts';
import { print, table } from '../terminal.ts';

/** `daybook node`: the nodes of a network of many machines. */
export function nodeCommand(context: CliContext): Command {
  const { terminal } = context;
  const command = new Command('node').description('Nodes of a network of many machines.');
  withAdminOptions(command.command('list'))
    .description('List the nodes, and who leads as sequencer.')
    .addHelpText(
      'after',
      examples('daybook node list', 'daybook node list --log etcd://10.0.0.1:2379/main --json'),
    )
    .action((options: AdminOptions) =>
      withAdmin(context, options, async (admin) => {
        const [members, leader, makers] = await Promise.all([
          admin.members(),
          admin.leader(),
          admin.makers(),
        ]);
        const away = makers.filter((maker) => members.every(({ name }) => name !== maker));
        print(terminal, options.json, { nodes: members, away, leader: leader ?? null }, () =>
          table([
            ['NODE', 'GATEWAY', 'PRIVATE ADDRESS', 'STATE'],
            ...members.map(({ name, gateway, address, draining, cutOff, chain }) => [
              name,
              gateway,
              address,
              [
                draining ? 'draining' : cutOff === undefined ? 'serves' : 'no way to the sequencer',
                ...(name === leader?.node ? [`sequencer, epoch ${leader.epoch}`] : []),
                ...(chain !== true && makers.includes(name) ? ['made blocks, makes none now'] : []),
              ].join(', '),
            ]),
            ...away.map((name) => [
              name,
              '–',
              '–',
              'away; makes blocks, so the log may wait for it',
            ]),
          ]),
        );
      }),
    );
  withAdminOptions(command.command('drain'))
    .argument('<name>', 'node to drain')
    .description(
      'Let a node take no new transactions and give up the sequencer’s place, so that it can be ' +
        'stopped. It goes on reading; its restart undoes it.',
    )
    .option('--undo', 'let it take transactions again')
    .addHelpText(
      'after',
      examples('daybook node drain executor-2', 'daybook node drain executor-2 --undo --json'),
    )
    .action((name: string, options: AdminOptions & { readonly undo?: boolean }) =>
      withAdmin(context, options, async (admin) => {
        const draining = options.undo !== true;
        await admin.drain(name, draining);
        print(terminal, options.json, { node: name, draining }, () =>
          draining ? `${name} takes no new transactions` : `${name} takes transactions again`,
        );
      }),
    );
  withAdminOptions(command.command('forget'))
    .argument('<name>', 'node that made blocks and will not come back to make more')
    .description(
      'Let the log be trimmed without waiting for a node that made blocks. Should it come back after ' +
        'all, it needs the blocks of another node to make more.',
    )
    .addHelpText(
      'after',
      examples('daybook node forget executor-3', 'daybook node forget executor-3 --json'),
    )
    .action((name: string, options: AdminOptions) =>
      withAdmin(context, options, async (admin) => {
        await admin.forget(name);
        print(
          terminal,
          options.json,
          { node: name, forgotten: true },
          () => `the log does not wait for ${name} any more`,
        );
      }),
    );
  return command;
}
