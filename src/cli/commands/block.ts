import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { DaybookError } from '../../base/index.ts';
import {
  attestationOf,
  type BlockParts,
  blockFiles,
  decodeBlock,
  decodeBlockProof,
  decodeOrdererMetadata,
  headerHash,
  headerTypes,
  metadataIndex,
  readEndorserTransaction,
  readEnvelopeHead,
} from '../../blocks/index.ts';
import { identityFromBytes, verdictName } from '../../model/index.ts';
import { type CliContext, examples, wholeNumber } from '../context.ts';
import { printable } from '../result.ts';
import { print, table } from '../terminal.ts';

interface BlockOptions {
  readonly json?: boolean;
}

/** `daybook block`: looks into block files. */
export function blockCommand(context: CliContext): Command {
  const command = new Command('block').description('Look into block files.');
  command
    .command('list')
    .description('List the blocks of a directory.')
    .argument('<directory>', 'the directory with the block files')
    .option('--json', 'print one JSON document a line')
    .addHelpText('after', examples('daybook block list blocks'))
    .action((directory: string, options: BlockOptions) => list(context, directory, options));
  command
    .command('show')
    .description('Show one block and its transactions.')
    .argument('<directory>', 'the directory with the block files')
    .argument('<height>', 'number of the block', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples('daybook block show blocks 7', 'daybook block show blocks 7 --json'),
    )
    .action(async (directory: string, height: number, options: BlockOptions) => {
      const value = describe(await find(context, directory, height));
      print(context.terminal, options.json, value, () => blockLines(value));
    });
  command
    .command('fetch')
    .description('Write one block to a file, as Fabric’s tools read it (common.Block).')
    .argument('<directory>', 'the directory with the block files')
    .argument('<height>', 'number of the block', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .argument('<file>', 'where to write it')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(
        'daybook block fetch blocks 7 block7.pb',
        'configtxlator proto_decode --type common.Block --input block7.pb',
      ),
    )
    .action(async (directory: string, height: number, file: string, options: BlockOptions) => {
      const bytes = await find(context, directory, height);
      await context.io.disk.writeFile(resolve(context.workingDirectory, file), bytes);
      print(context.terminal, options.json, { height, file, bytes: bytes.length }, () => file);
    });
  return command;
}

async function list(context: CliContext, directory: string, options: BlockOptions): Promise<void> {
  const rows: string[][] = [['block', 'records', 'valid', 'bytes', 'log time', 'hash']];
  for await (const bytes of blocksIn(context, directory)) {
    const { transactions, ...value } = describe(bytes);
    const valid = transactions.filter(({ verdict }) => verdict === 'valid').length;
    const { height, time, hash } = value;
    if (options.json) {
      const line = { ...value, records: transactions.length, valid, bytes: bytes.length };
      context.terminal.out(`${JSON.stringify(line)}\n`);
      continue;
    }
    const numbers = [height, transactions.length, valid, bytes.length].map(String);
    rows.push([...numbers, time, hash.slice(0, 16)]);
  }
  if (!options.json) print(context.terminal, false, undefined, () => table(rows));
}

async function find(context: CliContext, directory: string, height: number): Promise<Buffer> {
  for await (const bytes of blocksIn(context, directory, height)) {
    if (decodeBlock(bytes).header.number === height) return Buffer.from(bytes);
  }
  throw new DaybookError('NOT_FOUND', `there is no block ${height} in ${directory}`, {
    details: { height },
  });
}

async function* blocksIn(
  { io, workingDirectory }: CliContext,
  directory: string,
  from = 0,
): AsyncGenerator<Buffer> {
  const path = resolve(workingDirectory, directory);
  // Said to be the node's directory, meant to be the files below it.
  const below = (await io.disk.list(path)).includes('blocks') ? join(path, 'blocks') : path;
  yield* blockFiles(io.disk, below, from);
}

type BlockDocument = ReturnType<typeof describe>;

function describe(bytes: Buffer) {
  const block = decodeBlock(bytes);
  const { metadataValue, signatures } = attestationOf(bytes);
  const { lastConfig, consenterMetadata } = decodeOrdererMetadata(metadataValue);
  const proof = decodeBlockProof(consenterMetadata);
  const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
  return {
    height: block.header.number,
    hash: hex(headerHash(block.header)),
    previousHash: hex(block.header.previousHash),
    dataHash: hex(block.header.dataHash),
    stateRoot: hex(proof.stateRoot),
    historyRoot: hex(proof.historyRoot),
    historySize: proof.historySize,
    first: proof.first,
    end: proof.end,
    lastConfig,
    time: new Date(proof.logTimeMs).toISOString(),
    signatures: signatures.length,
    transactions: transactionsOf(block, proof.positions),
  };
}

function transactionsOf(block: BlockParts, positions: readonly number[]) {
  return block.envelopes.map((envelope, at) => {
    const head = readEnvelopeHead(envelope);
    const code = block.metadata[metadataIndex.transactionsFilter]?.[at] ?? 0;
    const common = { position: positions[at], verdict: verdictName(code) };
    if (head.type === headerTypes.config) return { ...common, type: 'config', txId: '' };
    const { txId } = head;
    if (head.type !== headerTypes.endorserTransaction)
      return { ...common, type: 'unreadable', txId };
    const transaction = readEndorserTransaction(head.data);
    return {
      ...common,
      type: 'call',
      txId,
      mspId: identityFromBytes(head.creator).mspId,
      contract: transaction.contract,
      args: transaction.args.map((one) => printable(one).json),
      result: printable(transaction.result).json,
      reads: transaction.sets.reduce((sum, { reads }) => sum + reads.length, 0),
      writes: transaction.sets.reduce((sum, { writes }) => sum + writes.length, 0),
    };
  });
}

function blockLines(block: BlockDocument): string[] {
  return [
    `block ${block.height}, ${block.time}, ${block.signatures} signatures`,
    `hash          ${block.hash}`,
    `previous hash ${block.previousHash}`,
    `data hash     ${block.dataHash}`,
    `state root    ${block.stateRoot}`,
    `history root  ${block.historyRoot} over ${block.historySize} records`,
    `positions     ${block.first} to ${block.end - 1}`,
    '',
    ...table([
      ['position', 'verdict', 'transaction', 'call'],
      ...block.transactions.map((one) => [
        String(one.position),
        one.verdict,
        one.txId.slice(0, 16),
        'contract' in one ? `${one.contract} ${JSON.stringify(one.args)}` : one.type,
      ]),
    ]),
  ];
}
