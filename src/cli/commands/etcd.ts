import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { type CliContext, type CommonOptions, examples, withCommonOptions } from '../context.ts';
import { startLocalEtcd } from '../local-etcd.ts';
import { print } from '../terminal.ts';

/** `daybook etcd`: etcd on this machine, for trying the log on etcd. */
export function etcdCommand(context: CliContext): Command {
  const { io, terminal, workingDirectory } = context;
  const command = new Command('etcd').description('Run etcd on this machine, to try it.');
  withCommonOptions(command.command('start'))
    .description(
      'Start an etcd cluster of three members on this machine and keep it running until Ctrl-C. ' +
        'Its data lie in DIRECTORY/etcd. A network of its own machines runs etcd by itself.',
    )
    .addHelpText(
      'after',
      examples('daybook etcd start', 'daybook etcd start --directory ./try --json'),
    )
    .action(async (options: CommonOptions) => {
      const directory = join(resolve(workingDirectory, options.directory), 'etcd');
      // Asked before the start: members that were started must be stopped.
      const interrupted = terminal.interrupted();
      const cluster = await startLocalEtcd(io, directory);
      const { url, pids } = cluster;
      print(terminal, options.json, { url, pids, directory }, () => [
        `etcd runs: ${url}`,
        `Start a network on it with: daybook up --log ${url}/main`,
        'Ctrl-C stops it.',
      ]);
      await interrupted;
      await cluster.stop();
    });
  return command;
}
