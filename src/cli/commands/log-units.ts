import type { Command } from 'commander';
import type { Layout } from '../../log/index.ts';
import { type AdminOptions, withAdmin, withAdminOptions } from '../cluster-options.ts';
import { type CliContext, examples } from '../context.ts';
import { print, table } from '../terminal.ts';

/** Adds `daybook log units`: the etcd clusters that the log is striped over. */
export function addLogUnits(command: Command, context: CliContext): void {
  withAdminOptions(command.command('units'))
    .argument(
      '[units]',
      'etcd://host:port,…;host:port,…: all units from now on, with their members',
    )
    .description(
      'List the etcd clusters that the log lies on, and which addresses lie where; or put what is ' +
        'written from now on onto other ones, while the network is in use. Units that leave keep ' +
        'what they have, and must run until that is trimmed.',
    )
    .addHelpText(
      'after',
      examples(
        'daybook log units',
        "daybook log units 'etcd://10.0.0.1:2379,10.0.0.2:2379;10.0.0.4:2379'",
        'daybook log units etcd://10.0.0.1:2379,10.0.0.5:2379 --json',
      ),
    )
    .action((wanted: string | undefined, options: AdminOptions) =>
      withAdmin(context, options, async (admin) => {
        const layout = wanted === undefined ? await admin.layout() : await admin.setUnits(wanted);
        print(context.terminal, options.json, { layout }, () => layoutLines(layout));
      }),
    );
}

function layoutLines({ segments, units }: Layout): string[] {
  const members = new Map(units.map(({ id, endpoints }) => [id, endpoints.join()]));
  return table([
    ['FROM ADDRESS', 'UNIT', 'MEMBERS'],
    ...segments.flatMap(({ from, units: ids }) =>
      ids.map((id) => [`${from}`, id, members.get(id) ?? '']),
    ),
  ]);
}
