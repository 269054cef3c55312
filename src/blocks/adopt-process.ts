import { ByteReader, ByteWriter, limits } from '../base/index.ts';
import { type Io, type RpcPeer, rpcPeer } from '../io/index.ts';
import type { AdoptionOptions, FetchBlocks } from './adoption.ts';
import type { AsWrittenOptions } from './as-written.ts';

/** Between a node and the process in which it has a chain adopted. Options are JSON. */
export const adoptionMethods = {
  /** To the process: `AdoptionOptions` → number of blocks, u64. */
  adopt: 1,
  /** From the process: u64 height → {@link packBlocks}. */
  fetch: 2,
  /** To the process: `AsWrittenOptions` → number of blocks, u64. */
  mend: 3,
} as const;

/**
 * `adoptChain` in a process of its own: checking a chain takes long, and commits go on meanwhile.
 *
 * @returns number of blocks.
 * @throws {DaybookError} as `adoptChain`; `PEER_UNREACHABLE` when the process ended, or `signal`
 *   aborted.
 */
export function adoptChainInProcess(
  io: Pick<Io, 'processes'>,
  options: AdoptionOptions,
  blocksFrom: FetchBlocks,
  signal: AbortSignal,
): Promise<number> {
  return inProcess(io, adoptionMethods.adopt, options, blocksFrom, signal);
}

/** `mendAsWritten` in such a process. @throws {DaybookError} as that and {@link adoptChainInProcess}. */
export function mendAsWrittenInProcess(
  io: Pick<Io, 'processes'>,
  options: AsWrittenOptions,
  blocksFrom: FetchBlocks,
  signal: AbortSignal,
): Promise<number> {
  return inProcess(io, adoptionMethods.mend, options, blocksFrom, signal);
}

async function inProcess(
  io: Pick<Io, 'processes'>,
  method: number,
  options: AdoptionOptions | AsWrittenOptions,
  blocksFrom: FetchBlocks,
  signal: AbortSignal,
): Promise<number> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const child = io.processes.spawn(new URL(`./adopt-main.${extension}`, import.meta.url), {
    niceness: 10,
  });
  const stop = (): void => child.kill();
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    const peer = rpcPeer(child.connection);
    peer.handle(adoptionMethods.fetch, async (payload) => [
      packBlocks(await blocksFrom(new ByteReader(payload, 'height').u64())),
    ]);
    const answer = await peer.call(method, [Buffer.from(JSON.stringify(options))]);
    return new ByteReader(answer, 'height').u64();
  } finally {
    signal.removeEventListener('abort', stop);
    child.kill();
  }
}

/** What a process that adopts chains does; see `adoptChain` and `mendAsWritten`. */
export interface Adopter {
  readonly adopt: (options: AdoptionOptions, blocksFrom: FetchBlocks) => Promise<number>;
  readonly mend: (options: AsWrittenOptions, blocksFrom: FetchBlocks) => Promise<number>;
}

/** Answers the parent of a process that adopts a chain. */
export function serveAdoption(peer: RpcPeer, { adopt, mend }: Adopter): void {
  const fetch: FetchBlocks = async (from) =>
    unpackBlocks(await peer.call(adoptionMethods.fetch, [new ByteWriter(8).u64(from).view()]));
  const serve = <T>(method: number, work: (options: T, from: FetchBlocks) => Promise<number>) =>
    peer.handle(method, async (payload) => {
      const height = await work(JSON.parse(payload.toString('utf8')) as T, fetch);
      return [new ByteWriter(8).u64(height).view()];
    });
  serve(adoptionMethods.adopt, adopt);
  serve(adoptionMethods.mend, mend);
}

/** Blocks as one message: u32 count, each with a u32 length. */
export function packBlocks(blocks: readonly Uint8Array[]): Uint8Array {
  const writer = new ByteWriter(64 * 1024).u32(blocks.length);
  for (const block of blocks) writer.bytes(block);
  return writer.finish();
}

/** @throws {DaybookError} `MALFORMED` */
export function unpackBlocks(bytes: Uint8Array): Buffer[] {
  const reader = new ByteReader(bytes, 'blocks');
  const blocks: Buffer[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    blocks.push(Buffer.from(reader.bytes(limits.frameBytesMax)));
  }
  reader.finish();
  return blocks;
}
