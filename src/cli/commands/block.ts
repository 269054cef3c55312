import { resolve } from 'node:path';
import { Command } from 'commander';
import {
  attestationOf,
  type BlockParts,
  decodeBlock,
  decodeBlockProof,
  decodeOrdererMetadata,
  headerHash,
  indexedFields,
  metadataIndex,
  openBlockStore,
} from '../../blocks/index.ts';
import {
  headerTypes,
  identityFromBytes,
  readEndorserTransaction,
  readEnvelopeHead,
  verdictName,
} from '../../model/index.ts';
import { type BlockOptions, openBlocks } from '../block-source.ts';
import { type CliContext, examples, wholeNumber, withNetworkOptions } from '../context.ts';
import { brief } from '../log-text.ts';
import { printable } from '../result.ts';
import { counted, print, table } from '../terminal.ts';

interface ListOptions extends BlockOptions {
  readonly from?: number;
  readonly limit: number;
}

const wholeHeight = wholeNumber(0, Number.MAX_SAFE_INTEGER);
const listDefault = 20;

/** `daybook block`: looks into the chain of a running network, or into block files. */
export function blockCommand(context: CliContext): Command {
  const command = new Command('block').description(
    'Look at blocks, of a running network or in files.',
  );
  withBlockOptions(command.command('list'))
    .description('List blocks: the newest ones, or those from a height on.')
    .option('--from <height>', 'first block', wholeHeight)
    .option('--limit <count>', 'how many', wholeNumber(1, Number.MAX_SAFE_INTEGER), listDefault)
    .addHelpText('after', examples('daybook block list', 'daybook block list --files blocks'))
    .action((options: ListOptions) => list(context, options));
  withBlockOptions(command.command('show'))
    .description('Show one block and its transactions.')
    .argument('<height>', 'number of the block', wholeHeight)
    .addHelpText('after', examples('daybook block show 7', 'daybook block show 7 --json'))
    .action(async (height: number, options: BlockOptions) => {
      const value = describe(await (await openBlocks(context, options)).block(height));
      print(context.terminal, options.json, value, () => blockLines(value));
    });
  withBlockOptions(command.command('fetch'))
    .description('Write one block to a file, as Fabric’s tools read it (common.Block).')
    .argument('<height>', 'number of the block', wholeHeight)
    .argument('<file>', 'where to write it')
    .addHelpText(
      'after',
      examples(
        'daybook block fetch 7 block7.pb',
        'configtxlator proto_decode --type common.Block --input block7.pb',
      ),
    )
    .action(async (height: number, file: string, options: BlockOptions) => {
      const bytes = await (await openBlocks(context, options)).block(height);
      await context.io.disk.writeFile(resolve(context.workingDirectory, file), bytes);
      print(context.terminal, options.json, { height, file, bytes: bytes.length }, () => file);
    });
  withBlockOptions(command.command('copy'))
    .description(
      'Copy the chain into block files, for `daybook verify chain`; goes on where an earlier copy ' +
        'ended.',
    )
    .argument('<directory>', 'where to write the block files')
    .addHelpText('after', examples('daybook block copy blocks', 'daybook verify chain blocks'))
    .action((directory: string, options: BlockOptions) => copy(context, directory, options));
  return command;
}

function withBlockOptions(command: Command): Command {
  return withNetworkOptions(command).option(
    '--files <directory>',
    'read block files instead of asking a network',
  );
}

async function list(context: CliContext, options: ListOptions): Promise<void> {
  const reader = await openBlocks(context, options);
  const height = await reader.height();
  const from = options.from ?? Math.max(0, (height ?? 0) - options.limit);
  // The end of files shows when it is there: keep the newest.
  const newest = options.from === undefined && height === undefined;
  const lines: ReturnType<typeof summary>[] = [];
  for await (const bytes of reader.blocks(from)) {
    lines.push(summary(bytes));
    if (lines.length > options.limit) lines.shift();
    if (!newest && lines.length === options.limit) break;
  }
  if (options.json) {
    for (const line of lines) context.terminal.out(`${JSON.stringify(line)}\n`);
    return;
  }
  const rows = lines.map(({ height: number, records, valid, bytes, time, hash }) => [
    ...[number, records, valid, bytes].map(String),
    time,
    hash.slice(0, 16),
  ]);
  const heading = ['block', 'records', 'valid', 'bytes', 'log time', 'hash'];
  print(context.terminal, false, undefined, () => table([heading, ...rows]));
}

function summary(bytes: Buffer) {
  const { transactions, ...value } = describe(bytes);
  const valid = transactions.filter(({ verdict }) => verdict === 'valid').length;
  return { ...value, records: transactions.length, valid, bytes: bytes.length };
}

async function copy(context: CliContext, directory: string, options: BlockOptions): Promise<void> {
  const { disk } = context.io;
  const path = resolve(context.workingDirectory, directory);
  const reader = await openBlocks(context, options);
  await disk.makeDirectory(path);
  const store = await openBlockStore({ disk, directory: path });
  const first = store.height;
  try {
    for await (const bytes of reader.blocks(first)) {
      const block = decodeBlock(bytes);
      await store.append({ header: block.header, bytes, ...indexedFields(block) });
    }
    await store.sync();
  } finally {
    await store.close();
  }
  const value = { directory, height: store.height, copied: store.height - first };
  print(context.terminal, options.json, value, () => [
    `${counted(value.copied, 'block')} copied; ${directory} holds ${value.height}.`,
  ]);
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
    `block ${block.height}, ${block.time}, ${counted(block.signatures, 'signature')}`,
    `hash          ${block.hash}`,
    `previous hash ${block.previousHash}`,
    `data hash     ${block.dataHash}`,
    `state root    ${block.stateRoot}`,
    `history root  ${block.historyRoot} over ${counted(block.historySize, 'record')}`,
    `positions     ${block.first} to ${block.end - 1}`,
    '',
    ...table([
      ['position', 'verdict', 'transaction', 'call'],
      ...block.transactions.map((one) => [
        String(one.position),
        one.verdict,
        one.txId.slice(0, 16),
        'contract' in one ? `${one.contract}(${one.args.map(brief).join(', ')})` : one.type,
      ]),
    ]),
  ];
}
