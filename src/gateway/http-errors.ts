import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { DaybookError, errorCatalog, limits, toDaybookError } from '../base/index.ts';

/**
 * Every error leaves as `ErrorJson` with the catalogue's status. Clients never see the inside of an
 * unforeseen one; `onError` does.
 */
export function answerErrors(app: FastifyInstance, onError: (error: DaybookError) => void): void {
  app.setErrorHandler<FastifyError>((thrown, _request, reply) => {
    const error = translate(thrown);
    onError(error);
    if (error.code === 'OVERLOADED' || error.code === 'CLOSED') reply.header('retry-after', '1');
    if (error.code === 'SIGNATURE_INVALID') reply.header('www-authenticate', 'Daybook');
    const json = error.toJSON();
    if (error.code === 'INTERNAL') json.message = 'internal error';
    return reply.code(errorCatalog[error.code].status).send(json);
  });
  app.setNotFoundHandler((request) => {
    throw new DaybookError('NOT_FOUND', 'no such route', {
      details: { method: request.method, path: request.url.slice(0, 200) },
    });
  });
}

function translate(thrown: FastifyError): DaybookError {
  if (thrown instanceof DaybookError) return thrown;
  const because = (code: 'MALFORMED' | 'INVALID_ARGUMENT', what: string): DaybookError =>
    new DaybookError(code, thrown.message, { cause: thrown, details: { what } });
  switch (thrown.code) {
    case 'FST_ERR_VALIDATION':
      return because('MALFORMED', thrown.validationContext ?? 'request');
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new DaybookError('LIMIT_EXCEEDED', 'the request is too large', {
        cause: thrown,
        details: { limit: 'batchBytesMax', max: limits.batchBytesMax },
      });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return because('INVALID_ARGUMENT', 'content-type');
    case 'FST_ERR_BAD_URL':
      return because('MALFORMED', 'url');
    default:
      // What is left of fastify's and the parsers' errors below 500 is a malformed request.
      return (thrown.statusCode ?? 500) < 500
        ? because('MALFORMED', 'request')
        : toDaybookError(thrown);
  }
}

/** Answers what fastify refuses before it looks for a route. */
export function answerFrameworkError(
  thrown: FastifyError,
  _request: FastifyRequest,
  reply: FastifyReply,
): void {
  const error = translate(thrown);
  void reply.code(errorCatalog[error.code].status).send(error.toJSON());
}

/** Answers bytes that are not HTTP. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const timeout = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const typed = timeout
    ? new DaybookError('TIMEOUT', 'the request did not arrive in time')
    : new DaybookError('MALFORMED', 'not HTTP', { details: { what: 'request' } });
  const body = JSON.stringify(typed);
  if (socket.writable) {
    socket.write(
      `HTTP/1.1 ${timeout ? '408 Request Timeout' : '400 Bad Request'}\r\nconnection: close\r\n` +
        `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  }
  socket.destroySoon();
}
