import { Command, Option } from 'commander';
import type { Client } from '../../client/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  wholeNumber,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { entryLines, type LogEntryDocument } from '../log-text.ts';
import { addLogCopy } from './log-copy.ts';
import { addLogUnits } from './log-units.ts';

interface TailOptions extends NetworkOptions {
  readonly from?: number;
  readonly lines: number;
  readonly follow?: boolean;
}

interface LogPage {
  readonly entries: readonly LogEntryDocument[];
  readonly next: number;
  readonly tail: number;
}

const pageEntries = 100;
const followEveryMs = 250;

/** `daybook log`: the entries of the log, decoded. */
export function logCommand(context: CliContext): Command {
  const command = new Command('log').description('Look into the log.');
  withNetworkOptions(command.command('tail'))
    .description('Print the newest entries of the log, or those from an address on.')
    .addOption(
      new Option('--from <address>', 'first address').argParser(
        wholeNumber(0, Number.MAX_SAFE_INTEGER),
      ),
    )
    .addOption(
      new Option('-n, --lines <count>', 'how many of the newest entries, without --from')
        .argParser(wholeNumber(1, pageEntries))
        .default(10),
    )
    .option('-f, --follow', 'go on with new entries until Ctrl-C')
    .addHelpText(
      'after',
      examples('daybook log tail', 'daybook log tail --from 0 --follow', 'daybook log tail --json'),
    )
    .action((options: TailOptions) =>
      withClient(context, options, ({ client }) => tail(context, client, options)),
    );
  addLogCopy(command, context);
  addLogUnits(command, context);
  return command;
}

async function tail(context: CliContext, client: Client, options: TailOptions): Promise<void> {
  const { terminal } = context;
  let stopped = false;
  void terminal.interrupted().then(() => {
    stopped = true;
  });
  const first = options.from === undefined ? '' : `from=${options.from}&`;
  let query = `${first}limit=${options.from === undefined ? options.lines : pageEntries}`;
  while (!stopped) {
    const page = (await client.get(`log?${query}`)) as LogPage;
    for (const entry of page.entries) {
      const lines = options.json ? [JSON.stringify(entry)] : entryLines(entry);
      terminal.out(`${lines.join('\n')}\n`);
    }
    const caughtUp = page.next >= page.tail;
    if (caughtUp && !options.follow) return;
    if (caughtUp) await pause(context, followEveryMs);
    query = `from=${page.next}&limit=${pageEntries}`;
  }
}

/** Waits, but not after an interrupt. Keeps the process alive, unlike a bare timer of `io`. */
function pause({ io, terminal }: CliContext, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = io.timers.after(delayMs, resolve);
    void terminal.interrupted().then(() => {
      timer.cancel();
      resolve();
    });
  });
}
