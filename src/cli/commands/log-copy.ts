import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import type { LogPlace } from '../../node/index.ts';
import { type LogOptions, logOptionsOf, withLogOptions } from '../cluster-options.ts';
import {
  type CliContext,
  type CommonOptions,
  examples,
  whileWaiting,
  withCommonOptions,
} from '../context.ts';
import { print } from '../terminal.ts';

/** Adds `daybook log copy`: between the embedded log of a data directory and etcd. */
export function addLogCopy(command: Command, context: CliContext): void {
  const { io, terminal, workingDirectory } = context;
  withLogOptions(withCommonOptions(command.command('copy')), 'etcd://… to copy to, or from')
    .description(
      'Copy the log of the data directory to etcd, or back with --back: the same entries at the ' +
        'same addresses. Stop the network first.',
    )
    .option('--back', 'copy from etcd into the data directory')
    .addHelpText(
      'after',
      examples(
        'daybook log copy --log etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/main',
        'daybook log copy --back --log etcd://10.0.0.1:2379/main --directory ./ledger --json',
      ),
    )
    .action(async (options: CommonOptions & LogOptions & { readonly back?: boolean }) => {
      const etcd = logOptionsOf(context, options);
      if (etcd === undefined) throw new DaybookError('USAGE', '--log etcd://… is needed');
      const directory = join(resolve(workingDirectory, options.directory), 'log');
      const embedded: LogPlace = { directory };
      const [from, to]: [LogPlace, LogPlace] = options.back ? [etcd, embedded] : [embedded, etcd];
      const { copyLog } = await import('../../node/index.ts');
      const copied = await whileWaiting(
        context,
        `etcd at ${etcd.url}, or for the end of a long log`,
        () => copyLog(io, from, to),
      );
      print(terminal, options.json, { ...copied, log: etcd.url, directory }, () => [
        `${copied.entries} entries (${copied.bytes} bytes) copied ` +
          (options.back ? `from ${etcd.url}` : `to ${etcd.url}`),
        ...(copied.resumedAt > 0 ? [`${copied.resumedAt} of them were there already`] : []),
      ]);
    });
}
