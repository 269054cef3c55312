import type { FastifyRequest } from 'fastify';
import { DaybookError, limits } from '../base/index.ts';
import { identityBytes, sha256Hex, verifyReadToken } from '../model/index.ts';
import {
  compactMediaType,
  type FollowerRequest,
  type FollowerService,
  type PageAnswer,
  type PageFormat,
  type PullRequest,
  type ScanRequest,
} from '../replication/index.ts';
import { admitReader } from './admission.ts';
import type { GatewayContext } from './context.ts';

interface OfFollower {
  Params: { channel: string; follower: string };
  Body: unknown;
}

const namePattern = /^[\w.-]{1,128}$/;
const runPattern = /^[\w-]{1,64}$/;

/** The ledger's side of replication: followers pull from here (`docs/followers.md`). */
export function followerRoutes(context: GatewayContext): void {
  const { app, io } = context;

  /** Who asks, and the service that answers. */
  const admit = (request: {
    readonly params: { readonly channel: string; readonly follower?: string };
    readonly headers: { readonly authorization?: string | undefined };
  }): { service: FollowerService; owner: string; name: string } => {
    const backend = context.backend(request.params.channel);
    const { authorization } = request.headers;
    const nowMs = io.clock.nowMs();
    admitReader(backend, authorization, context.openReads, nowMs);
    const service = backend.followers;
    if (service === undefined) {
      throw new DaybookError('NOT_FOUND', 'this node serves no followers');
    }
    const name = request.params.follower ?? '';
    if (request.params.follower !== undefined && !namePattern.test(name)) {
      throw invalid('follower', 'a follower’s name has 1 to 128 letters, digits, and _ . -');
    }
    const token = /^daybook ([\w-]+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined) return { service, owner: '', name };
    const identity = verifyReadToken(token, backend.channel, backend.verifier(), nowMs);
    return { service, owner: `${identity.mspId}/${sha256Hex(identityBytes(identity))}`, name };
  };

  const pages = (
    door: 'pull' | 'scan',
    summary: string,
    answer: (request: FastifyRequest<OfFollower>) => Promise<PageAnswer>,
  ): void => {
    app.post<OfFollower>(
      `/v1/channels/:channel/followers/:follower/${door}`,
      { schema: { tags: ['followers'], summary } },
      async (request, reply) => {
        const { mediaType, body } = await answer(request);
        return reply
          .header('content-type', mediaType)
          .header('cache-control', 'no-store')
          .serializer((text: string) => text)
          .send(body);
      },
    );
  };

  pages('pull', 'The changes after a cursor', async (request) => {
    const { service, owner, name } = admit(request);
    const body = readRequest(request.body) as PullRequest;
    optional(body, 'cursor', 'string');
    optional(body, 'waitMs', 'number');
    return service.pull(name, owner, { ...body, format: formatOf(request) });
  });

  pages('scan', 'The rows of the state as it is now', async (request) => {
    const { service, owner, name } = admit(request);
    const body = readRequest(request.body) as ScanRequest;
    optional(body, 'from', 'number');
    optional(body, 'resume', 'string');
    return service.scan(name, owner, { ...body, format: formatOf(request) });
  });

  app.post<OfFollower>(
    '/v1/channels/:channel/followers/:follower/applied',
    { schema: { tags: ['followers'], summary: 'Tell what the follower’s system holds' } },
    async (request) => {
      const { service, owner, name } = admit(request);
      return service.applied(name, owner, readRequest(request.body));
    },
  );

  app.get<{ Params: { channel: string }; Querystring: { at?: string } }>(
    '/v1/channels/:channel/followers',
    { schema: { tags: ['followers'], summary: 'Where every follower stands' } },
    (request) => {
      const { at } = request.query;
      if (at !== undefined && !/^\d{1,15}$/.test(at)) throw invalid('at', 'at is a position');
      return admit(request).service.status(at === undefined ? undefined : Number(at));
    },
  );

  app.delete<{ Params: { channel: string; follower: string } }>(
    '/v1/channels/:channel/followers/:follower',
    { schema: { tags: ['followers'], summary: 'Forget a follower' } },
    async (request) => {
      const { service, owner, name } = admit(request);
      return { forgotten: service.forget(name, owner) };
    },
  );
}

function formatOf({ headers: { accept = '' } }: FastifyRequest<OfFollower>): PageFormat {
  if (accept.includes(compactMediaType)) return 'compact';
  return accept.includes('xml') ? 'xml' : 'json';
}

function readRequest(body: unknown): FollowerRequest {
  if (typeof body !== 'object' || body === null) throw invalid('body', 'the body is a JSON object');
  const request = body as FollowerRequest;
  if (typeof request.run !== 'string' || !runPattern.test(request.run)) {
    throw invalid('run', 'run names one run of the follower: up to 64 letters, digits, _ and -');
  }
  optional(request, 'applied', 'number');
  optional(request, 'changesMax', 'number');
  optional(request, 'key', 'object');
  optional(request, 'filling', 'boolean');
  optional(request, 'parked', 'number');
  const { changesMax = 1 } = request;
  if (changesMax < 1 || changesMax > limits.followerPageChangesMax) {
    throw invalid('changesMax', `changesMax is a number up to ${limits.followerPageChangesMax}`);
  }
  return request;
}

function optional<T extends object>(
  body: T,
  name: keyof T & string,
  type: 'string' | 'number' | 'object' | 'boolean',
): void {
  const value = body[name];
  if (value === undefined) return;
  const right =
    type === 'number'
      ? Number.isSafeInteger(value) && (value as number) >= 0
      : typeof value === type && value !== null;
  if (!right) throw invalid(name, `${name} is not a ${type}`);
}

function invalid(what: string, message: string): DaybookError {
  return new DaybookError('INVALID_ARGUMENT', message, { details: { what } });
}
