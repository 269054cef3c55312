import { join } from 'node:path';
import { DaybookError, isDaybookError, toDaybookError } from '../base/index.ts';
import {
  type BlockService,
  rowsBefore,
  startBlockProcess,
  startBlockService,
} from '../blocks/index.ts';
import type { BlockSource, BlocksHealth } from '../gateway/index.ts';
import type { Io } from '../io/index.ts';
import type { Replica } from '../replica/index.ts';

/** Where the identity lies with which a node signs its blocks; PEM files. */
export interface PeerFiles {
  readonly mspId: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** Settings of {@link startNodeBlocks}. */
export interface NodeBlocksOptions {
  readonly io: Io;
  readonly replica: Replica;
  /** Absolute path of a directory of its own; the block files lie in `blocks/` below it. */
  readonly directory: string;
  readonly peer: PeerFiles;
  readonly onEvent: (text: string) => void;
}

/** A node's blocks, made in a process of their own. */
export interface NodeBlocks extends BlockSource {
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
  const start = async (): Promise<void> => {
    for (let attempt = 1; service === undefined && !stop.signal.aborted; attempt++) {
      try {
        service = await open(options);
      } catch (error) {
        failure = toDaybookError(error);
        const again = isDaybookError(failure, 'LOG_LOCKED', 'PEER_UNREACHABLE');
        if (!again || attempt === openAttemptsMax) {
          onEvent(`no blocks are made: ${failure.code} ${failure.message}`);
          return;
        }
        await pause(options.io, openPauseMs, stop.signal);
      }
    }
    failure = undefined;
  };
  const opening = start();
  return {
    service: () => {
      if (service !== undefined) return service;
      throw failure ?? new DaybookError('PROOF_NOT_READY', 'the blocks are still being opened');
    },
    health: () => healthOf(service, failure),
    close: async () => {
      stop.abort();
      await opening;
      await service?.close();
    },
  };
}

/** The block process of a node that was killed may take a moment to end. */
const openAttemptsMax = 20;
const openPauseMs = 500;

function pause(io: Pick<Io, 'timers'>, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      timer.cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = io.timers.after(delayMs, end);
    signal.addEventListener('abort', end);
  });
}

async function open(options: NodeBlocksOptions): Promise<BlockService> {
  const { io, replica, directory, peer } = options;
  const [certificate, key] = await Promise.all([
    io.disk.readFile(peer.certificateFile),
    io.disk.readFile(peer.keyFile),
  ]);
  if (certificate === undefined || key === undefined) {
    throw new DaybookError('NOT_FOUND', `no identity to sign blocks with: ${peer.keyFile}`);
  }
  await io.disk.makeDirectory(directory);
  const identity = { mspId: peer.mspId, certificate: certificate.toString('utf8') };
  const signer = { identity, privateKeyPem: key.toString('utf8') };
  return startBlockService({
    io,
    replica,
    open: () => startBlockProcess(io, { directory, signer }),
    rowBefore: rowsBefore(replica.state),
  });
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

/** Where a node keeps its chain, below its own directory. */
export function chainDirectory(nodeDirectory: string): string {
  return join(nodeDirectory, 'chain');
}
