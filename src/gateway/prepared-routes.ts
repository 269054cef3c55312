import { DaybookError } from '../base/index.ts';
import {
  afterHeader,
  asPosition,
  batchMediaType,
  deadlineHeader,
  decodeBatch,
} from '../model/index.ts';
import { admitPreparation, readDeadlineMs, readInteger } from './admission.ts';
import { catchUp } from './batch-routes.ts';
import type { GatewayContext } from './context.ts';
import { fromBase64, fromHex, outcomeJson } from './json.ts';
import { batchFromJson, jsonBatchSchema } from './json-batch.ts';

interface PrepareRequest {
  Params: { channel: string };
  Querystring: { deadlineMs?: string };
}

interface PreparedRequest {
  Params: { channel: string; txId: string };
  Querystring: { deadlineMs?: string };
  Body: { signature: string };
}

/**
 * `POST …/prepare` and `POST …/prepared/:txId`: transactions that are signed singly, in two steps as
 * in Fabric. The first has a call executed and endorsed, and answers what is to be signed; the second
 * brings the signature.
 */
export function preparedRoutes(context: GatewayContext): void {
  const { app, io, inFlight } = context;
  const querystring = {
    type: 'object',
    properties: {
      deadlineMs: { type: 'string', description: `Same as the header ${deadlineHeader}` },
    },
  };
  app.post<PrepareRequest>(
    '/v1/channels/:channel/prepare',
    {
      schema: {
        tags: ['transactions'],
        summary: 'Have a call executed and endorsed, to be signed singly',
        description:
          `A batch of one (${batchMediaType}, or JSON), signed for preparation. The answer holds the ` +
          'payload of a Fabric envelope (base64): what the client is to sign.',
        querystring,
        body: { content: { 'application/json': { schema: jsonBatchSchema } } },
      },
    },
    async ({ params, headers, query, body }) => {
      const backend = context.backend(params.channel);
      const waitMs = readDeadlineMs(headers[deadlineHeader] ?? query.deadlineMs);
      const batch = Buffer.isBuffer(body)
        ? decodeBatch(body)
        : batchFromJson(backend.channel, body);
      admitPreparation(backend, batch);
      const after = headers[afterHeader];
      inFlight.enter();
      try {
        if (after !== undefined) {
          const position = readInteger(afterHeader, after, 0, Number.MAX_SAFE_INTEGER);
          await catchUp(backend, asPosition(position), waitMs);
        }
        const payload = await backend.executor.prepare(batch, waitMs);
        const txId = Buffer.from(batch.items[0]?.txId ?? []).toString('hex');
        return { txId, payload: payload.toString('base64') };
      } finally {
        inFlight.leave();
      }
    },
  );
  app.post<PreparedRequest>(
    '/v1/channels/:channel/prepared/:txId',
    {
      schema: {
        tags: ['transactions'],
        summary: 'Submit a prepared transaction with its client’s signature',
        description: 'At the node that prepared it. Given again, it has the original outcome.',
        querystring,
        body: {
          type: 'object',
          required: ['signature'],
          properties: {
            signature: {
              type: 'string',
              description:
                'Base64 of the DER signature (ECDSA P-256, SHA-256, low S) over the payload',
            },
          },
        },
      },
    },
    async ({ params, headers, query, body }) => {
      const backend = context.backend(params.channel);
      const waitMs = readDeadlineMs(headers[deadlineHeader] ?? query.deadlineMs);
      const txId = fromHex(params.txId, 32, 'txId');
      const signature = fromBase64(body.signature, 'signature');
      if (signature.length > signatureBytesMax) {
        throw new DaybookError('SIGNATURE_INVALID', 'no ECDSA signature is that long');
      }
      inFlight.enter();
      try {
        return await new Promise<object>((resolve) => {
          backend.executor.submitPrepared(
            txId,
            signature,
            io.clock.monotonicMs() + waitMs,
            (outcome) => resolve(outcomeJson(0, txId, outcome)),
          );
        });
      } finally {
        inFlight.leave();
      }
    },
  );
}

const signatureBytesMax = 128;
