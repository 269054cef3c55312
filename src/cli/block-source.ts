import { join, resolve } from 'node:path';
import { DaybookError, toDaybookError } from '../base/index.ts';
import { type BlockStatus, blockFiles, decodeBlock } from '../blocks/index.ts';
import { noAnswerFrom } from '../io/index.ts';
import { isErrorJson, signReadToken } from '../model/index.ts';
import { type CliContext, type NetworkOptions, openNetwork } from './context.ts';

/** Where commands take blocks from: files, or a running network. */
export interface BlockReader {
  /** Number of the first block that is not there; `undefined` when only reading would tell. */
  height(): Promise<number | undefined>;
  /** @throws {DaybookError} `NOT_FOUND` */
  block(height: number): Promise<Buffer>;
  /** Blocks from a height on, as many as there are now. */
  blocks(from: number): AsyncGenerator<Buffer>;
}

/** Options that say where blocks come from. */
export interface BlockOptions extends NetworkOptions {
  /** A directory with block files, instead of a network. */
  readonly files?: string;
}

/** Opens what the options name. */
export async function openBlocks(context: CliContext, options: BlockOptions): Promise<BlockReader> {
  return options.files === undefined
    ? networkBlocks(context, options)
    : fileBlocks(context, options.files);
}

/**
 * The directory with the block files: the one named, or `blocks` or `chain/blocks` in it, so that a
 * node's own directory may be named.
 */
export async function findBlockFiles(
  { io, workingDirectory }: CliContext,
  directory: string,
): Promise<string> {
  let path = resolve(workingDirectory, directory);
  for (const below of ['chain', 'blocks']) {
    if ((await io.disk.list(path)).includes(below)) path = join(path, below);
  }
  return path;
}

async function fileBlocks(context: CliContext, directory: string): Promise<BlockReader> {
  const path = await findBlockFiles(context, directory);
  if (!(await context.io.disk.list(path)).some((name) => name.endsWith('.pb'))) {
    throw new DaybookError('NOT_FOUND', `no block files in ${path}`, { details: { path } });
  }
  const blocks = (from: number): AsyncGenerator<Buffer> => blocksFrom(context, path, from);
  return {
    height: () => Promise.resolve(undefined),
    blocks,
    block: async (height) => {
      for await (const bytes of blocks(height)) return Buffer.from(bytes);
      throw new DaybookError('NOT_FOUND', `there is no block ${height} in ${directory}`, {
        details: { height },
      });
    },
  };
}

async function* blocksFrom({ io }: CliContext, path: string, from: number): AsyncGenerator<Buffer> {
  for await (const bytes of blockFiles(io.disk, path, from)) {
    if (decodeBlock(bytes).header.number >= from) yield bytes;
  }
}

async function networkBlocks(context: CliContext, options: NetworkOptions): Promise<BlockReader> {
  const { channel, gateways, signer } = await openNetwork(context, options);
  const token = signReadToken(signer, channel, context.io.clock.nowMs());
  const get = async (path: string): Promise<Response> => {
    let failure: DaybookError | undefined;
    for (const gateway of gateways) {
      try {
        return await fetchFrom(gateway, `/v1/channels/${channel}/${path}`, token, options.timeout);
      } catch (error) {
        failure = toDaybookError(error);
        const elsewhere = ['PEER_UNREACHABLE', 'OVERLOADED', 'CLOSED', 'PROOF_NOT_READY'];
        if (!elsewhere.includes(failure.code)) throw failure;
      }
    }
    throw failure ?? new DaybookError('NOT_FOUND', 'no gateway is named');
  };
  const block = async (height: number): Promise<Buffer> =>
    Buffer.from(await (await get(`blocks/${height}`)).arrayBuffer());
  const height = async (): Promise<number> =>
    ((await (await get('blocks?limit=0')).json()) as BlockStatus).height;
  return {
    height,
    block,
    blocks: async function* (from) {
      const end = await height();
      for (let at = from; at < end; at++) yield await block(at);
    },
  };
}

async function fetchFrom(
  gateway: string,
  path: string,
  token: string,
  timeoutSeconds: number,
): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(new URL(path, gateway), {
      headers: { authorization: `Daybook ${token}` },
      signal: AbortSignal.timeout(timeoutSeconds * 1000),
    });
  } catch (cause) {
    throw noAnswerFrom(gateway, cause);
  }
  if (answer.ok) return answer;
  const json: unknown = await answer.json().catch(() => undefined);
  if (isErrorJson(json)) throw DaybookError.fromJSON(json);
  throw new DaybookError('PEER_UNREACHABLE', `unexpected answer from ${gateway}`, {
    details: { gateway, statusCode: answer.status },
  });
}
