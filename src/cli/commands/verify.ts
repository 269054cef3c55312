import { resolve } from 'node:path';
import { Command } from 'commander';
import { bytesOf, DaybookError } from '../../base/index.ts';
import {
  ChainExecution,
  type ChainReport,
  type ExecutionSummary,
  type KeyProof,
  type Receipt,
  type Trust,
  verifyChain,
  verifyKeyProof,
  verifyReceipt,
} from '../../blocks/index.ts';
import { decodeChannelConfig, type MspConfig, splitStateKey } from '../../model/index.ts';
import { findBlockFiles } from '../block-source.ts';
import { type CliContext, examples, wholeNumber } from '../context.ts';
import { printable } from '../result.ts';
import { counted, print } from '../terminal.ts';

interface VerifyOptions {
  readonly json?: boolean;
  readonly trust?: string;
  readonly signatures: number;
}

interface ChainOptions extends VerifyOptions {
  readonly execute?: boolean;
}

/** `daybook verify`: checks files, offline. */
export function verifyCommand(context: CliContext): Command {
  const command = new Command('verify').description('Check block files, receipts and proofs.');
  withOptions(command.command('chain'))
    .description('Check a whole chain from its block files: hashes, signatures, roots.')
    .option('--execute', 'execute every valid transaction again and compare; runs the contracts')
    .argument('<directory>', 'the directory with the block files')
    .addHelpText(
      'after',
      examples('daybook verify chain blocks', 'daybook verify chain blocks --json'),
    )
    .action((directory: string, options: ChainOptions) => chain(context, directory, options));
  withOptions(command.command('receipt'))
    .description('Check a receipt: that a transaction is in the log, and what replay found.')
    .argument('<file>', 'the receipt, JSON')
    .addHelpText('after', examples('daybook verify receipt receipt.json --trust channel.json'))
    .action((file: string, options: VerifyOptions) => receipt(context, file, options));
  withOptions(command.command('key'))
    .description('Check a key proof: what a key held after a block, or that it was absent.')
    .argument('<file>', 'the key proof, JSON')
    .addHelpText('after', examples('daybook verify key proof.json --trust channel.json'))
    .action((file: string, options: VerifyOptions) => keyProof(context, file, options));
  return command;
}

function withOptions(command: Command): Command {
  return command
    .option('--trust <file>', 'whom to believe: a channel configuration or an msp.json')
    .option('--signatures <count>', 'different block signatures to ask for', wholeNumber(0, 100), 1)
    .option('--json', 'print one JSON document');
}

async function chain(context: CliContext, directory: string, options: ChainOptions): Promise<void> {
  const { io, terminal } = context;
  const path = await findBlockFiles(context, directory);
  const execution = options.execute === true ? new ChainExecution(io) : undefined;
  const report = await verifyChain(io.disk, path, {
    ...(execution === undefined ? {} : { also: execution }),
    signaturesMin: options.signatures,
    ...(options.trust === undefined ? {} : { msps: (await trusted(context, options)).msps }),
  });
  if (report.height === 0 && report.problem === undefined) {
    throw new DaybookError('NOT_FOUND', `no block files in ${path}`);
  }
  const { problem } = report;
  const executed = execution?.summary;
  if (options.json || problem === undefined) {
    const value = executed === undefined ? report : { ...report, execution: executed };
    print(terminal, options.json, value, () => chainLines(report, executed));
  }
  if (problem !== undefined) {
    const { file, offset, height, transaction, what } = problem;
    const place = transaction === undefined ? '' : `, transaction ${transaction}`;
    throw new DaybookError(
      'PROOF_INVALID',
      `block ${height}${place} (${file}, byte ${offset}): ${what}`,
      { details: { file, offset, height } },
    );
  }
}

function chainLines(report: ChainReport, execution: ExecutionSummary | undefined): string[] {
  const executed =
    execution === undefined
      ? []
      : [
          `executed     ${execution.executed} again, with the same outcome`,
          ...(execution.notComparable === 0
            ? []
            : [`             ${execution.notComparable} read histories and cannot be compared`]),
        ];
  return [
    `${counted(report.height, 'block')} of channel ${report.channel} ${report.height === 1 ? 'holds' : 'hold'}.`,
    `records      ${report.records}, ${report.valid} of them valid`,
    `block hash   ${report.blockHash}`,
    `state root   ${report.stateRoot}`,
    `history root ${report.historyRoot}`,
    ...executed,
  ];
}

async function receipt(context: CliContext, file: string, options: VerifyOptions): Promise<void> {
  const document = await readDocument(context, file, 'receipt');
  const proven = verifyReceipt(document as Receipt, await trusted(context, options));
  const { txId, position, verdict, height, transaction } = proven;
  const args = transaction.args.map((one) => printable(one).json);
  const { contract, contractVersion } = transaction;
  const result = printable(transaction.result);
  const value = { txId, position, verdict, height, contract, contractVersion, args };
  print(context.terminal, options.json, { ...value, result: result.json }, () => [
    `Transaction ${txId} is in the log at position ${position}: ${verdict}.`,
    `contract  ${contract} ${contractVersion}`,
    `call      ${JSON.stringify(args)}`,
    `result    ${result.text}`,
    `attested by the signatures of block ${height}`,
  ]);
}

async function keyProof(context: CliContext, file: string, options: VerifyOptions): Promise<void> {
  const document = await readDocument(context, file, 'key');
  const proven = verifyKeyProof(document as KeyProof, await trusted(context, options));
  const { namespace, key } = splitStateKey(proven.key);
  const { row, height } = proven;
  const value = row === undefined ? undefined : printable(bytesOf(row.value));
  const name = printable(bytesOf(key));
  const shown = { contract: namespace, key: name.json, height, present: row !== undefined };
  const found = row === undefined ? {} : { value: value?.json, version: row.version };
  print(context.terminal, options.json, { ...shown, ...found }, () =>
    value === undefined
      ? `After block ${height}, ${namespace} has no key ${name.text}.`
      : `After block ${height}, ${name.text} of ${namespace} is: ${value.text}`,
  );
}

async function trusted(context: CliContext, options: VerifyOptions): Promise<Trust> {
  if (options.trust === undefined) {
    throw new DaybookError(
      'USAGE',
      'say whom to believe with --trust FILE: a channel configuration, or the msp.json of an ' +
        'authority (identities/msp.json in the data directory)',
    );
  }
  const text = (await readFile(context, options.trust)).toString('utf8');
  return { msps: mspsOf(options.trust, text), signaturesMin: options.signatures };
}

/** The MSPs of a channel configuration, or the one that `msp.json` of an authority describes. */
function mspsOf(file: string, text: string): readonly MspConfig[] {
  let value: Partial<MspConfig> | undefined;
  try {
    value = JSON.parse(text) as Partial<MspConfig>;
  } catch {
    // The other decoder says what is wrong.
  }
  const { mspId, rootCertificates } = value ?? {};
  if (typeof mspId === 'string' && Array.isArray(rootCertificates)) return [value as MspConfig];
  try {
    return decodeChannelConfig(text).msps;
  } catch (cause) {
    throw new DaybookError(
      'CONFIG_INVALID',
      `${file} is neither a channel configuration nor an msp.json`,
      { cause, details: { file } },
    );
  }
}

/** What the subcommands of `daybook verify` and of `daybook proof` that belong together speak of. */
const documents = {
  receipt: {
    kind: 'daybook receipt 1' satisfies Receipt['kind'],
    name: 'receipt',
    made: 'daybook proof tx',
  },
  key: {
    kind: 'daybook key proof 1' satisfies KeyProof['kind'],
    name: 'key proof',
    made: 'daybook proof key',
  },
} as const;

/** Reads the document that a subcommand checks; says what it is when it is another one. */
async function readDocument(
  context: CliContext,
  file: string,
  subcommand: keyof typeof documents,
): Promise<unknown> {
  const text = (await readFile(context, file)).toString('utf8');
  const malformed = (what: string, cause?: unknown): DaybookError =>
    new DaybookError('MALFORMED', `${file} is ${what}`, { cause, details: { what: file } });
  let value: { readonly kind?: unknown } | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch (cause) {
    throw malformed('not JSON', cause);
  }
  const { kind, name, made } = documents[subcommand];
  if (value?.kind === kind) return value;
  const other = subcommand === 'key' ? 'receipt' : 'key';
  throw value?.kind === documents[other].kind
    ? malformed(`a ${documents[other].name}, no ${name}: check it with \`daybook verify ${other}\``)
    : malformed(`no ${name} (\`${made}\`)`);
}

async function readFile(context: CliContext, file: string): Promise<Buffer> {
  const bytes = await context.io.disk.readFile(resolve(context.workingDirectory, file));
  if (bytes === undefined) throw new DaybookError('NOT_FOUND', `there is no file ${file}`);
  return bytes;
}
