import type { FastifyRequest } from 'fastify';
import { DaybookError, limits } from '../base/index.ts';
import { decodeBlock, headerHash } from '../blocks/index.ts';
import { stateKey } from '../model/index.ts';
import { admitReader, readInteger } from './admission.ts';
import type { BlockSource } from './backend.ts';
import { BlockStream } from './block-stream.ts';
import type { GatewayContext } from './context.ts';
import { bytestringOfParameter } from './json.ts';

interface OfChannel {
  Params: { channel: string };
}

/** Fabric's `common.Block`, as its own tools read it. */
export const blockMediaType = 'application/vnd.hyperledger.fabric.block';
/** Blocks one after the other, each with its length in front as a varint. */
export const blocksMediaType = 'application/vnd.hyperledger.fabric.blocks';

const listMax = 100;

/** The chain: blocks, receipts, proofs (`docs/blocks.md`). */
export function blockRoutes(context: GatewayContext): void {
  const { app, io } = context;
  const admit = (
    request: Pick<FastifyRequest<OfChannel>, 'params' | 'headers'>,
  ): ReturnType<BlockSource['service']> => {
    const backend = context.backend(request.params.channel);
    admitReader(backend, request.headers.authorization, context.openReads, io.clock.nowMs());
    if (backend.blocks === undefined) {
      throw new DaybookError('NOT_FOUND', 'this node makes no blocks');
    }
    return backend.blocks.service();
  };
  const height = (what: string, value: unknown): number =>
    readInteger(what, value, 0, Number.MAX_SAFE_INTEGER);

  app.get<OfChannel & { Querystring: { from?: string; limit?: string } }>(
    '/v1/channels/:channel/blocks',
    {
      schema: {
        tags: ['blocks'],
        summary: 'Where the chain stands, and headers of blocks',
        querystring: {
          type: 'object',
          properties: {
            from: { type: 'string', description: 'First height; default: the newest blocks' },
            limit: { type: 'string', description: `At most ${listMax}; default 10` },
          },
        },
      },
    },
    async (request) => {
      const service = admit(request);
      const { status } = service;
      const limit = readInteger('limit', request.query.limit ?? '10', 0, listMax);
      const { from } = request.query;
      const first = from === undefined ? Math.max(0, status.height - limit) : height('from', from);
      const blocks: object[] = [];
      for (let at = first; at < Math.min(status.height, first + limit); at++) {
        blocks.push(headerJson(await service.block(at)));
      }
      return { ...status, blocks };
    },
  );

  app.get<OfChannel & { Querystring: { from?: string } }>(
    '/v1/channels/:channel/blocks/stream',
    {
      schema: {
        tags: ['blocks'],
        summary: 'Blocks from a height on, those to come included, without end',
        description:
          'Each block with its length in front as a varint; the length 0 is a heartbeat. Go on ' +
          'after a break with `from` = the height after the last block received.',
        querystring: {
          type: 'object',
          properties: { from: { type: 'string', description: 'First height; default 0' } },
        },
      },
    },
    (request, reply) => {
      const service = admit(request);
      const from = height('from', request.query.from ?? '0');
      const { subscribers } = context;
      subscribers.enter();
      reply.hijack();
      const stream = new BlockStream(context, reply.raw, blocksMediaType);
      void stream.run(service, from).finally(() => subscribers.leave());
    },
  );

  app.get<{ Params: { channel: string; height: string } }>(
    '/v1/channels/:channel/blocks/:height',
    { schema: { tags: ['blocks'], summary: 'One block, as bytes of Fabric’s common.Block' } },
    async (request, reply) => {
      const service = admit(request);
      const bytes = await service.block(height('height', request.params.height));
      return reply.header('content-type', blockMediaType).send(bytes);
    },
  );

  app.get<{ Params: { channel: string; txId: string } }>(
    '/v1/channels/:channel/transactions/:txId/receipt',
    {
      schema: {
        tags: ['blocks'],
        summary: 'Proves that a transaction stands in the log, and what replay found',
        description: '`404 TRANSACTION_UNKNOWN` while it is in no block.',
      },
    },
    (request) => {
      const service = admit(request);
      const { txId } = request.params;
      if (!/^[0-9a-f]{64}$/.test(txId)) {
        throw new DaybookError('INVALID_ARGUMENT', 'a transaction id has 64 hexadecimal digits', {
          details: { what: 'txId' },
        });
      }
      return service.receipt(txId);
    },
  );

  app.get<OfChannel & { Querystring: { contract?: string; key?: string; keyBase64?: string } }>(
    '/v1/channels/:channel/proof',
    {
      schema: {
        tags: ['blocks'],
        summary: 'Proves what a key held after the newest block, or that there was no such key',
        querystring: {
          type: 'object',
          properties: {
            contract: { type: 'string' },
            key: { type: 'string' },
            keyBase64: { type: 'string', description: 'The key, when it is not UTF-8' },
          },
        },
      },
    },
    (request) => {
      const service = admit(request);
      const { contract, key, keyBase64 } = request.query;
      if (contract === undefined || contract === '' || contract.length > limits.nameBytesMax) {
        throw new DaybookError('INVALID_ARGUMENT', 'name the contract', {
          details: { what: 'contract' },
        });
      }
      const bytes = bytestringOfParameter(key, keyBase64, 'key');
      return service.keyProof(stateKey(contract, bytes));
    },
  );
}

function headerJson(bytes: Buffer): object {
  const { header, envelopes } = decodeBlock(bytes);
  return {
    height: header.number,
    hash: headerHash(header).toString('hex'),
    previousHash: Buffer.from(header.previousHash).toString('hex'),
    dataHash: Buffer.from(header.dataHash).toString('hex'),
    records: envelopes.length,
    bytes: bytes.length,
  };
}
