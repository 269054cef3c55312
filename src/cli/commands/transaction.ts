import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import type { StatusOfTransaction } from '../../client/index.ts';
import { addressOf, indexOf } from '../../model/index.ts';
import {
  type CliContext,
  examples,
  type NetworkOptions,
  withClient,
  withNetworkOptions,
} from '../context.ts';
import { type LogRecord, recordLine } from '../log-text.ts';
import { print, table } from '../terminal.ts';

/** `daybook tx`: where a transaction stands. */
export function transactionCommand(context: CliContext): Command {
  return withNetworkOptions(new Command('tx'))
    .description('Show where a transaction stands in the log, what replay found, and what it did.')
    .argument('<txId>', 'transaction id, 64 hexadecimal digits')
    .addHelpText('after', examples('daybook tx 6f0c…', 'daybook tx 6f0c… --json'))
    .action(async (txId: string, options: NetworkOptions) => {
      const found = await withClient(context, options, ({ client }) => client.status(txId));
      if (found === undefined) {
        throw new DaybookError('TRANSACTION_UNKNOWN', `no gateway knows ${txId}`, {
          details: { txId },
        });
      }
      print(context.terminal, options.json, found, () => describe(found));
    });
}

function describe(status: StatusOfTransaction): string[] {
  const { txId, position, verdict } = status;
  const record = status.record as LogRecord | undefined;
  const lines = table([
    ['transaction', txId],
    ['position', `${position} (address ${addressOf(position)}, record ${indexOf(position)})`],
    ['verdict', verdict],
  ]);
  if (record === undefined) return lines;
  lines.push(...table([['call', recordLine(record)]]));
  for (const set of record.sets) {
    for (const read of set.reads) lines.push(`  read   ${set.namespace} ${text(read.key)}`);
    for (const range of set.ranges) {
      lines.push(`  range  ${set.namespace} ${text(range.start)} … ${text(range.end)}`);
    }
    for (const write of set.writes) {
      const value = write.deleted === true ? '(deleted)' : text(write.value ?? '');
      lines.push(`  write  ${set.namespace} ${text(write.key)} = ${value}`);
    }
  }
  if (record.event !== undefined) {
    lines.push(`  event  ${record.event.name} ${text(record.event.payload)}`);
  }
  return lines;
}

const text = (value: string | { readonly base64: string }): string =>
  typeof value === 'string' ? value : `base64:${value.base64}`;
