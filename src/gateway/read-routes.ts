import { DaybookError, limits } from '../base/index.ts';
import { addressOf, asAddress, asPosition, verdictName } from '../model/index.ts';
import { admitReader, readInteger } from './admission.ts';
import type { GatewayBackend } from './backend.ts';
import type { GatewayContext } from './context.ts';
import { entryJson, recordJson } from './json.ts';

interface Channel {
  Params: { channel: string };
}

/** The routes that only look. All answer JSON. */
export function readRoutes(context: GatewayContext): void {
  const { app, io } = context;
  const admit = (request: {
    readonly params: { readonly channel: string };
    readonly headers: { readonly authorization?: string | undefined };
  }): GatewayBackend => {
    const backend = context.backend(request.params.channel);
    admitReader(backend, request.headers.authorization, context.openReads, io.clock.nowMs());
    return backend;
  };
  const query = (properties: Record<string, string>): object => ({
    type: 'object',
    properties: Object.fromEntries(
      Object.entries(properties).map(([name, description]) => [
        name,
        { type: 'string', description },
      ]),
    ),
  });

  app.get<{ Params: { channel: string; txId: string } }>(
    '/v1/channels/:channel/transactions/:txId',
    {
      schema: {
        tags: ['transactions'],
        summary: 'Where a transaction stands, what replay found, and its record',
      },
    },
    async (request) => {
      const backend = admit(request);
      const { txId } = request.params;
      if (!/^[0-9a-f]{64}$/.test(txId)) {
        throw new DaybookError('INVALID_ARGUMENT', 'a transaction id has 64 hexadecimal digits', {
          details: { what: 'txId' },
        });
      }
      const status = backend.status(txId);
      if (status === undefined) {
        throw new DaybookError('TRANSACTION_UNKNOWN', 'no such transaction is known here', {
          details: { txId },
        });
      }
      const { position, verdict } = status;
      return {
        txId,
        position,
        verdict: verdictName(verdict),
        valid: verdict === 0,
        record: await recordAt(backend, position),
      };
    },
  );

  app.get<Channel & { Params: { position: string }; Querystring: { waitMs?: string } }>(
    '/v1/channels/:channel/positions/:position',
    {
      schema: {
        tags: ['transactions'],
        summary: 'Whether this node has applied a position; waits for it',
        querystring: query({ waitMs: 'How long to wait, milliseconds; default 0' }),
      },
    },
    async (request) => {
      const backend = admit(request);
      const max = Number.MAX_SAFE_INTEGER;
      const position = readInteger('position', request.params.position, 0, max);
      const { waitMs = '0' } = request.query;
      const wait = readInteger('waitMs', waitMs, 0, limits.gatewayDeadlineMsMax);
      const applied = await backend.waitFor(asPosition(position), wait);
      return { position, applied, nextAddress: backend.nextAddress() };
    },
  );

  app.get<Channel & { Querystring: { from?: string; limit?: string } }>(
    '/v1/channels/:channel/log',
    {
      schema: {
        tags: ['log'],
        summary: 'Entries of the log, decoded',
        querystring: query({
          from: 'First address; default: the newest entries',
          limit: `Entries, at most ${limits.gatewayLogEntriesMax}; default 10`,
        }),
      },
    },
    async (request) => {
      const backend = admit(request);
      const { from, limit = '10' } = request.query;
      const count = readInteger('limit', limit, 1, limits.gatewayLogEntriesMax);
      const next = backend.nextAddress();
      const first =
        from === undefined
          ? Math.max(0, next - count)
          : readInteger('from', from, 0, Number.MAX_SAFE_INTEGER);
      const entries = first >= next ? [] : await backend.read(asAddress(first), count);
      return { entries: entries.map(entryJson), next: first + entries.length, tail: next };
    },
  );

  app.get<Channel>(
    '/v1/channels/:channel/contracts',
    { schema: { tags: ['contracts'], summary: 'The deployed contracts' } },
    (request, reply) => {
      void reply.send({ contracts: admit(request).contracts() });
    },
  );

  app.get<Channel>(
    '/v1/channels/:channel/config',
    { schema: { tags: ['channel'], summary: 'The configuration of the channel' } },
    (request, reply) => {
      void reply.send(admit(request).config());
    },
  );
}

async function recordAt(backend: GatewayBackend, position: number): Promise<object | undefined> {
  const at = asPosition(position);
  const [entry] = await backend.read(addressOf(at), 1);
  const applied = entry?.records.find((record) => record.position === position);
  return applied === undefined ? undefined : recordJson(applied);
}
