import { ByteReader, ByteWriter, DaybookError, limits } from '../../base/index.ts';
import type { RootStatement } from '../../blocks/index.ts';
import type { Io, RpcPeer } from '../../io/index.ts';
import { type Address, asAddress } from '../../model/index.ts';

/*
 * What nodes of a network ask one another about their states: over the private network on many
 * machines, by way of the log process on one.
 */

/** Another node, whether or not it answers. */
export interface OtherNode {
  readonly name: string;
  call(method: number, payload: Uint8Array): Promise<Buffer>;
}

/** All other nodes of the network that make blocks. */
export type OtherNodes = () => Promise<readonly OtherNode[]>;

/** A snapshot at the end of a block, ready to be fetched in pieces. */
export interface SnapshotOffer {
  /** The first address that is not in it. */
  readonly address: Address;
  /** Number of blocks that cover what is in it. */
  readonly height: number;
}

/** What a node answers. Whoever does not serve, answers `NODE_DIVERGED` to all of it. */
export interface NodeAnswers {
  /** Number of its blocks. */
  height(): Promise<number>;
  /** @throws {DaybookError} `NOT_FOUND`: it has not so many blocks. */
  statement(height: number): Promise<RootStatement>;
  /** @throws {DaybookError} `TIMEOUT` when no block ends that could be its end. */
  snapshot(): Promise<SnapshotOffer>;
  /** A piece of the snapshot offered last; empty behind its end. */
  snapshotPiece(address: Address, offset: number): Promise<Uint8Array>;
  digests(from: number, count: number): Promise<readonly Buffer[]>;
  block(height: number): Promise<Buffer>;
}

/** RPC methods. Only these are passed on from node to node. */
export const nodeMethods = {
  height: 230,
  statement: 231,
  snapshot: 232,
  snapshotPiece: 233,
  digests: 234,
  block: 235,
} as const;

const known = new Set<number>(Object.values(nodeMethods));

/** Whether a method is one of {@link nodeMethods}. */
export function isNodeMethod(method: number): boolean {
  return known.has(method);
}

/** Answers other nodes that ask by this connection. */
export function answerNodes(
  peer: Pick<RpcPeer, 'handle'>,
  answers: () => NodeAnswers | undefined,
): void {
  const handle = (
    method: number,
    answer: (node: NodeAnswers, first: number, second: number) => Promise<Uint8Array>,
  ): void => {
    peer.handle(method, async (payload) => {
      const reader = new ByteReader(payload, 'request of a node');
      const [first, second] = [reader.u64(), reader.u64()];
      reader.finish();
      const node = answers();
      if (node === undefined) throw new DaybookError('CLOSED', 'the node has not started yet');
      return [await answer(node, first, second)];
    });
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  handle(nodeMethods.height, async (node) => json(await node.height()));
  handle(nodeMethods.statement, async (node, height) => json(await node.statement(height)));
  handle(nodeMethods.snapshot, async (node) => json(await node.snapshot()));
  handle(nodeMethods.snapshotPiece, (node, address, offset) =>
    node.snapshotPiece(asAddress(address), offset),
  );
  handle(nodeMethods.digests, async (node, from, count) =>
    Buffer.concat(await node.digests(from, Math.min(count, limits.blockDigestsMax))),
  );
  handle(nodeMethods.block, (node, height) => node.block(height));
}

/** Asks another node. An answer that does not come in time is `TIMEOUT`. */
export function askNode(
  io: Pick<Io, 'timers'>,
  node: OtherNode,
  waitMs: number = askWaitMs,
): NodeAnswers {
  const call = async (
    method: number,
    first = 0,
    second = 0,
    patience = waitMs,
  ): Promise<Buffer> => {
    const payload = new ByteWriter(16).u64(first).u64(second).finish();
    let timer: { cancel(): void } | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = io.timers.after(patience, () =>
        reject(new DaybookError('TIMEOUT', `${node.name} does not answer`)),
      );
    });
    try {
      return await Promise.race([node.call(method, payload), silence]);
    } finally {
      timer?.cancel();
    }
  };
  const parsed = async <T>(answer: Promise<Buffer>): Promise<T> =>
    JSON.parse((await answer).toString('utf8')) as T;
  return {
    height: () => parsed<number>(call(nodeMethods.height)),
    statement: (height) => parsed<RootStatement>(call(nodeMethods.statement, height)),
    snapshot: () => parsed<SnapshotOffer>(call(nodeMethods.snapshot, 0, 0, snapshotWaitMs)),
    snapshotPiece: (address, offset) => call(nodeMethods.snapshotPiece, address, offset),
    digests: async (from, count) => {
      const bytes = await call(nodeMethods.digests, from, count, snapshotWaitMs);
      return Array.from({ length: Math.floor(bytes.length / 32) }, (_, at) =>
        bytes.subarray(at * 32, at * 32 + 32),
      );
    },
    block: (height) => call(nodeMethods.block, height),
  };
}

const askWaitMs = 3_000;
/** Writing a snapshot takes its time. */
const snapshotWaitMs = 300_000;
