import { join } from 'node:path';
import { DaybookError, isDaybookError, toDaybookError } from '../base/index.ts';
import {
  adoptChainInProcess,
  type BlockBackend,
  type BlockProcess,
  type BlockService,
  type FetchBlocks,
  mendAsWrittenInProcess,
  rowsBefore,
  startBlockProcess,
  startBlockService,
  storedBlocks,
  unlessDamaged,
} from '../blocks/index.ts';
import type { Endorser } from '../executor/index.ts';
import type { BlockSource, BlocksHealth } from '../gateway/index.ts';
import { type Io, pause } from '../io/index.ts';
import {
  type Address,
  addressOf,
  asAddress,
  asPosition,
  type Identity,
  type Position,
  type Signer,
  signerFromPem,
} from '../model/index.ts';
import type { Replica } from '../replica/index.ts';

/** Where the identity lies with which a node signs its blocks; PEM files. */
export interface PeerFiles {
  readonly mspId: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** Chains of other nodes, for what the log cannot give any more. */
export interface OtherChains {
  /** The first entry that the log still has. */
  logStart(): Promise<Address>;
  /** Behind the last record before an address, as far back as the log goes. */
  recordsEnd(before: Address): Promise<Position>;
  readonly fetch: FetchBlocks;
  /** The last blocks that came do not hold. @returns whose they were; `undefined`: none came. */
  distrustLast(): string | undefined;
}

/** Settings of {@link startNodeBlocks}. */
export interface NodeBlocksOptions {
  readonly io: Io;
  readonly replica: Replica;
  /** Absolute path of a directory of its own; the block files lie in `blocks/` below it. */
  readonly directory: string;
  readonly peer: PeerFiles;
  /** Without it a chain that lacks entries which the log has lost stands still. */
  readonly others?: OtherChains;
  /** Rows of the replica's state that are compared with the state tree per second; 0: none. */
  readonly scrubRowsPerS?: number;
  /** See `BlockBackendOptions.sweepBytesPerS`. */
  readonly sweepBytesPerS?: number;
  readonly onEvent: (text: string) => void;
}

/**
 * What a node knows of its saved blocks. `lacking`: some are damaged, or not there, so that nobody may count
 * on them. `unknown`: they are not open, since the node has just started or they cannot be opened.
 */
export type ChainFiles = 'whole' | 'lacking' | 'unknown';

/** A node's blocks, made in a process of their own. */
export interface NodeBlocks extends BlockSource {
  /** Endorses with the identity that signs the blocks. */
  readonly endorser: Endorser;
  /** @throws {DaybookError} while it is being opened. */
  service(): BlockService;
  /** Blocks from a height on, as many as come at a time; none when there are no more. */
  blocksFrom(height: number): Promise<readonly Buffer[]>;
  readonly files: ChainFiles;
  close(): Promise<void>;
}

/**
 * Starts to make blocks beside a replica. The node does not wait for it: a generator that starts
 * may first have to make up for a lot. What keeps it from working stops blocks, never commits; it
 * shows in {@link BlockSource.health}.
 */
export function startNodeBlocks(options: NodeBlocksOptions): NodeBlocks {
  const { onEvent } = options;
  let service: BlockService | undefined;
  let failure: DaybookError | undefined;
  const stop = new AbortController();
  /** Rows of this bulk update, which others have in their blocks, are gone. */
  let gone: Position | undefined;
  let told: DaybookError | undefined;
  const tellStopped = (alarm: DaybookError): void => {
    if (alarm.code !== told?.code) {
      // What else there is, the node's repair looks after.
      const alarmed = alarm.code === 'DISK_FULL' ? 'ALARM ' : '';
      onEvent(`${alarmed}no more blocks are made: ${alarm.code} ${alarm.message}`);
    }
    told = alarm;
  };
  const untilRoom = async (): Promise<void> => {
    const { io, directory } = options;
    do await pause(io, pollMs, { signal: stop.signal });
    while (!stop.signal.aborted && (await io.disk.availableBytes(directory)) < spareBytes);
  };
  const start = async (): Promise<void> => {
    for (let attempt = 1; service === undefined && !stop.signal.aborted; attempt++) {
      try {
        service = await open(options, gone, stop.signal, (state) => {
          failure = state;
        });
        gone = undefined;
      } catch (error) {
        failure = toDaybookError(error);
        if (failure.code === 'DISK_FULL') {
          tellStopped(failure);
          await untilRoom();
          continue;
        }
        // While the log cannot be asked, nothing else can be done either.
        const away = isDaybookError(failure, ...logAway);
        const again = isDaybookError(failure, 'LOG_LOCKED', 'PEER_UNREACHABLE');
        if (!away && (!again || attempt >= openAttemptsMax)) {
          onEvent(`no blocks are made: ${failure.code} ${failure.message}`);
          return;
        }
        await pause(options.io, openPauseMs, { signal: stop.signal });
      }
    }
    failure = undefined;
    if (told !== undefined && service !== undefined) onEvent('blocks are made again');
    told = undefined;
  };
  let opening = start();
  const restart = (): void => {
    void pause(options.io, pollMs, { signal: stop.signal }).then(async () => {
      // Of what a sweep finds nobody else hears.
      if ((options.sweepBytesPerS ?? 0) > 0) await service?.now().catch(() => undefined);
      const stopped = service;
      if (stop.signal.aborted) return;
      const helped = options.others === undefined ? [] : othersHelp;
      if (isDaybookError(stopped?.alarm, 'STATE_DAMAGED', ...helped)) {
        if (stopped.alarm.code === 'BULK_ROWS_GONE') {
          gone = asPosition(Number(stopped.alarm.details.position));
        }
        onEvent(`blocks begin anew: ${stopped.alarm.message}`);
        service = undefined;
        failure = isDaybookError(stopped.alarm, 'STATE_DAMAGED') ? stopped.alarm : undefined;
        opening = stopped.close().then(start, (error: unknown) => {
          // Its process ends all the same, and leaves what it had saved.
          onEvent(`blocks were not closed: ${toDaybookError(error).message}`);
          return start();
        });
        opening.then(restart, restart);
      } else if (isDaybookError(stopped?.alarm, 'DISK_FULL')) {
        tellStopped(stopped.alarm);
        failure = stopped.alarm;
        service = undefined;
        opening = untilRoom()
          .then(() => stopped.close())
          .catch(() => undefined)
          .then(start);
        opening.then(restart, restart);
      } else {
        if (stopped?.alarm !== undefined) tellStopped(stopped.alarm);
        restart();
      }
    });
  };
  opening.then(restart, restart);
  const opened = (): BlockService => {
    if (service !== undefined) return service;
    throw failure ?? new DaybookError('PROOF_NOT_READY', 'the blocks are still being opened');
  };
  let signer: Promise<Signer> | undefined;
  return {
    service: opened,
    endorser: {
      signer: () => {
        signer ??= readPeer(options).then(({ identity, privateKeyPem }) =>
          signerFromPem(identity, privateKeyPem),
        );
        return signer;
      },
      placesOf: (positions, waitMs) => opened().placesOf(positions, waitMs),
    },
    get files() {
      const alarm = failure ?? service?.alarm;
      // They are mended, or fetched; or made again, in a process that serves the others.
      if (isDaybookError(alarm, 'STATE_DAMAGED', 'PROOF_NOT_READY')) return 'lacking';
      if (service === undefined) return 'unknown';
      const { damaged, remakes = false } = service.status;
      return remakes || damaged !== undefined ? 'lacking' : 'whole';
    },
    blocksFrom: (height) =>
      // While it is being opened, fetched or mended, too: two nodes that each lack what the other has must
      // not wait for one another.
      someOf(
        service === undefined
          ? storedBlocks(options.io.disk, `${options.directory}/blocks`, height)
          : blocksOf(service, height),
      ),
    health: () => healthOf(service, failure),
    close: async () => {
      stop.abort();
      await opening;
      await service?.close();
    },
  };
}

/** The log cannot be asked now: it gives no answer, or is being trimmed for want of space. */
const logAway = ['TIMEOUT', 'OVERLOADED'] as const;
/** What keeps a chain from going on by itself, and not with others' blocks. */
const othersHelp = ['LOG_TRIMMED', 'BULK_ROWS_GONE', ...logAway] as const;
/** The block process of a node that was killed may take a moment to end. */
const openAttemptsMax = 20;
const openPauseMs = 500;
const pollMs = 1_000;
/** A chain that stopped for want of space goes on with so much: the node's state asks for as much. */
const spareBytes = 64 * 1024 * 1024;

/** @throws {DaybookError} `NOT_FOUND` */
async function readPeer({
  io,
  peer,
}: NodeBlocksOptions): Promise<{ readonly identity: Identity; readonly privateKeyPem: string }> {
  const [certificate, key] = await Promise.all([
    io.disk.readFile(peer.certificateFile),
    io.disk.readFile(peer.keyFile),
  ]);
  if (certificate === undefined || key === undefined) {
    throw new DaybookError('NOT_FOUND', `no identity to sign blocks with: ${peer.keyFile}`);
  }
  const identity = { mspId: peer.mspId, certificate: certificate.toString('utf8') };
  return { identity, privateKeyPem: key.toString('utf8') };
}

async function open(
  options: NodeBlocksOptions,
  gone: Position | undefined,
  signal: AbortSignal,
  onState: (state: DaybookError | undefined) => void,
): Promise<BlockService> {
  const { io, replica, directory, others, onEvent } = options;
  const signer = await readPeer(options);
  await io.disk.makeDirectory(directory);
  const { scrubRowsPerS = 0, sweepBytesPerS = 0 } = options;
  const scrub =
    scrubRowsPerS === 0
      ? {}
      : { scrub: { stateDirectory: replica.state.directory, rowsPerS: scrubRowsPerS } };
  let lost = gone;
  return startBlockService({
    io,
    replica,
    open: async () => {
      let tried = false;
      for (let remakes = false; ; ) {
        let backend: BlockProcess;
        try {
          backend = await startBlockProcess(io, {
            directory,
            signer,
            remakes,
            ...scrub,
            sweepBytesPerS,
          });
        } catch (error) {
          if (!isDaybookError(error, 'STATE_DAMAGED')) throw error;
          onEvent(`blocks are mended: ${error.message}`);
          onState(error);
          if (!tried && others !== undefined) {
            tried = true;
            if (await mendsAsWritten(options, others, signal)) continue;
          }
          remakes = await isLogWhole(options);
          if (remakes) continue;
          // Among three nodes or more it is restored then.
          if (others === undefined) throw new DaybookError('BLOCK_MISMATCH', error.message);
          await adopt(options, others, { mends: true }, signal, onState);
          continue;
        }
        const first = await lacking(options, backend, lost);
        lost = undefined;
        if (first === undefined || others === undefined) {
          onState(undefined);
          return backend;
        }
        await backend.close();
        await adopt(options, others, { first }, signal, onState);
      }
    },
    rowBefore: rowsBefore(replica.state),
  });
}

/**
 * The first entry that there is, when the chain ends before it, or waits for rows of bulk updates from
 * before the state begins; or the one behind a bulk update whose rows are gone.
 */
async function lacking(
  { others, replica }: NodeBlocksOptions,
  { nextAddress, rowsFrom }: BlockBackend,
  gone: Position | undefined,
): Promise<Address | undefined> {
  if (others === undefined) return undefined;
  if (gone !== undefined) return asAddress(addressOf(gone) + 1);
  const logStart = await others.logStart();
  const { startAddress } = replica.state;
  const first = asAddress(Math.max(startAddress, logStart));
  return nextAddress < first || rowsFrom < startAddress ? first : undefined;
}

/** All entries can be handed to a generator once more, from the first one on. */
async function isLogWhole({ others, replica }: NodeBlocksOptions): Promise<boolean> {
  return replica.state.startAddress === 0 && ((await others?.logStart()) ?? 0) === 0;
}

/** Whether all damaged blocks are mended as they were; so it goes quickly, whatever is in the log. */
async function mendsAsWritten(
  { io, replica, directory, onEvent }: NodeBlocksOptions,
  others: OtherChains,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const msps = replica.config?.msps ?? [];
    const height = await mendAsWrittenInProcess(io, { directory, msps }, others.fetch, signal);
    onEvent(`${height} blocks are whole`);
    return true;
  } catch (error) {
    if (!isDaybookError(error, 'STATE_DAMAGED')) throw error;
    return false;
  }
}

/**
 * Takes blocks over from other nodes until the chain can go on with the entry `first`, or until all of
 * its own hold again. Where nobody has them it waits for others to come.
 */
async function adopt(
  { io, replica, directory, onEvent }: NodeBlocksOptions,
  others: OtherChains,
  wanted: { readonly first: Address } | { readonly mends: true },
  signal: AbortSignal,
  onState: (state: DaybookError) => void,
): Promise<void> {
  const msps = replica.config?.msps ?? [];
  const mends = 'mends' in wanted;
  const first = mends ? asAddress(0) : wanted.first;
  if (!mends) {
    onEvent(`blocks before address ${first} are fetched from other nodes`);
    const what = `blocks before address ${first} are fetched and checked`;
    onState(new DaybookError('PROOF_NOT_READY', what));
  }
  for (;;) {
    try {
      const target = await others.recordsEnd(first);
      const settings = { directory, target, first, msps, mends };
      const height = await adoptChainInProcess(io, settings, others.fetch, signal);
      onEvent(`${height} blocks are there and hold`);
      return;
    } catch (error) {
      if (!isDaybookError(error, 'PROOF_INVALID', 'MALFORMED')) throw error;
      const name = others.distrustLast();
      if (name === undefined) throw error;
      onEvent(`blocks of ${name} are refused: ${error.message}`);
    }
  }
}

function healthOf(
  service: BlockService | undefined,
  failure: DaybookError | undefined,
): BlocksHealth | undefined {
  const alarm = failure ?? service?.alarm;
  const problem = alarm === undefined ? {} : { alarm: `${alarm.code}: ${alarm.message}` };
  if (service === undefined) return failure === undefined ? undefined : { height: 0, ...problem };
  const { height, position, records, blockHash, stateRoot } = service.status;
  return { height, position, records, blockHash, stateRoot, ...problem };
}

const blocksBytesMark = 4 * 1024 * 1024;

/** As many as come at a time. */
async function someOf(blocks: AsyncIterable<Buffer>): Promise<readonly Buffer[]> {
  const found: Buffer[] = [];
  let bytes = 0;
  for await (const block of blocks) {
    bytes += block.length;
    found.push(block);
    if (bytes >= blocksBytesMark) break;
  }
  return found;
}

/** From a height on, up to where one is damaged. @throws {DaybookError} when the first one is. */
async function* blocksOf(
  service: Pick<BlockService, 'status' | 'block'>,
  height: number,
): AsyncGenerator<Buffer> {
  for (let at = height; at < service.status.height; at++) {
    const reading = service.block(at);
    const block = await (at === height ? reading : unlessDamaged(reading));
    if (block === undefined) return;
    yield block;
  }
}

/** Where a node keeps its chain, below its own directory. */
export function chainDirectory(nodeDirectory: string): string {
  return join(nodeDirectory, 'chain');
}
