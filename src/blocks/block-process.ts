import { type Bytestring, ByteWriter, bytesOf } from '../base/index.ts';
import { type Io, type RpcPeer, rpcPeer } from '../io/index.ts';
import { type Address, asAddress, type BlockVersion } from '../model/index.ts';
import { encodeApplied } from './applied-frames.ts';
import type { AttestationJson } from './attestation.ts';
import type { BlockBackend, BlockBackendOptions, BlockStatus, KeyPath } from './block-backend.ts';
import type { Receipt } from './receipt.ts';

/** Methods that a block process answers. Arguments and answers are JSON unless said otherwise. */
export const blockMethods = {
  /** `BlockBackendOptions` → `nextAddress` and `rowsFrom`. */
  open: 1,
  /** `encodeApplied` bytes → `BlockStatus`. */
  push: 2,
  status: 3,
  /** Height → the block's bytes. */
  block: 4,
  receipt: 5,
  /** The key's bytes → {@link KeyPathJson}. */
  keyPath: 6,
  close: 7,
  /** A path → nothing. */
  useBulkDirectory: 8,
  /** Positions → places. */
  placesOf: 9,
  /** Height → `AttestationJson`. */
  statement: 10,
  /** First height and count → digests, 32 bytes each. */
  digests: 11,
  /** Address → address. */
  save: 12,
} as const;

/** A {@link KeyPath} with bytes in hexadecimal. */
export interface KeyPathJson extends Omit<KeyPath, 'path'> {
  siblings: string[];
  leaf?: { keyHash: string; contentHash: string };
}

/** A generator in a process of its own. */
export interface BlockProcess extends BlockBackend {
  readonly pid: number;
  /** Called once when the process has ended. */
  onExit(listener: (reason: string) => void): void;
  /** Ends it at once; what it has in blocks stays. */
  kill(): void;
}

/** Blocks can be late, commits cannot: on busy cores a block process gets what is left. */
const niceness = 10;

/** Decoded records live until their block ends: in the default 16 MiB they are copied many times. */
const youngSpace = ['--min-semi-space-size=64', '--max-semi-space-size=64'];

/**
 * Starts a process that makes blocks: hashing and encoding stay off the thread that commits.
 *
 * @throws {DaybookError} what opening the generator threw; `PEER_UNREACHABLE` when the process
 *   ended first.
 */
export async function startBlockProcess(
  io: Pick<Io, 'processes'>,
  options: BlockBackendOptions,
): Promise<BlockProcess> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const child = io.processes.spawn(new URL(`./block-process-main.${extension}`, import.meta.url), {
    nodeOptions: youngSpace,
    niceness,
  });
  const peer = rpcPeer(child.connection);
  try {
    const opened = await peer.call(blockMethods.open, json(options));
    const [nextAddress, rowsFrom] = parse<[number, number]>(opened).map(asAddress) as [
      Address,
      Address,
    ];
    return {
      ...remote(peer),
      nextAddress,
      rowsFrom,
      pid: child.pid,
      onExit: (listener) => child.onExit(listener),
      kill: () => child.kill(),
    };
  } catch (error) {
    child.kill();
    throw error;
  }
}

function remote(peer: RpcPeer): Omit<BlockBackend, 'nextAddress' | 'rowsFrom'> {
  return {
    useBulkDirectory: async (directory) => {
      await peer.call(blockMethods.useBulkDirectory, json(directory));
    },
    push: async (entries) => {
      const answer = await peer.call(blockMethods.push, [encodeApplied(entries)]);
      return parse<BlockStatus>(answer);
    },
    status: async () => parse<BlockStatus>(await peer.call(blockMethods.status, [])),
    save: async (wanted) => parse<Address>(await peer.call(blockMethods.save, json(wanted))),
    block: (height) => peer.call(blockMethods.block, json(height)),
    statement: async (height) =>
      parse<AttestationJson>(await peer.call(blockMethods.statement, json(height))),
    digests: (from, count) => peer.call(blockMethods.digests, json([from, count])),
    receipt: async (txId) => parse<Receipt>(await peer.call(blockMethods.receipt, json(txId))),
    keyPath: async (key: Bytestring) => {
      const answer = await peer.call(blockMethods.keyPath, [bytesOf(key)]);
      return keyPathFromJson(parse<KeyPathJson>(answer));
    },
    placesOf: async (positions) =>
      parse<(BlockVersion | null)[]>(await peer.call(blockMethods.placesOf, json(positions))),
    close: async () => {
      try {
        await peer.call(blockMethods.close, []);
      } finally {
        // It ends with its connection, and what it could not save is made again.
        peer.close();
      }
    },
  };
}

/** Hashes in hexadecimal. */
export function keyPathToJson({ path, ...rest }: KeyPath): KeyPathJson {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const { leaf } = path;
  return {
    ...rest,
    siblings: path.siblings.map(hex),
    ...(leaf === undefined
      ? {}
      : { leaf: { keyHash: hex(leaf.keyHash), contentHash: hex(leaf.contentHash) } }),
  };
}

function keyPathFromJson({ siblings, leaf, ...rest }: KeyPathJson): KeyPath {
  const bytes = (text: string): Buffer => Buffer.from(text, 'hex');
  return {
    ...rest,
    path: {
      siblings: siblings.map(bytes),
      leaf:
        leaf === undefined
          ? undefined
          : { keyHash: bytes(leaf.keyHash), contentHash: bytes(leaf.contentHash) },
    },
  };
}

/** A JSON value as a message. */
export function json(value: unknown): Uint8Array[] {
  return [new ByteWriter(256).raw(Buffer.from(JSON.stringify(value))).finish()];
}

function parse<T>(payload: Buffer): T {
  return JSON.parse(payload.toString('utf8')) as T;
}
