import {
  DaybookError,
  type ErrorJson,
  isDaybookError,
  limits,
  TransitMap,
  toDaybookError,
} from '../base/index.ts';
import type { Connection } from './io.ts';

/** Answers a call. The payload is a view that stays valid; what it returns is sent back. */
export type RpcHandler = (
  payload: Buffer,
) => Promise<readonly Uint8Array[]> | readonly Uint8Array[];

/**
 * Calls and pushes over one {@link Connection}; both ends may call. Methods and push channels are
 * numbers that the two programs agree on.
 */
export interface RpcPeer {
  /**
   * Calls the other side.
   *
   * @throws {DaybookError} what the other side threw; `PEER_UNREACHABLE` when the connection closed
   *   before the answer (the call may have taken effect); `OVERLOADED` over `rpcCallsInFlightMax`.
   */
  call(method: number, payload: readonly Uint8Array[]): Promise<Buffer>;
  /** Answers calls of `method`. */
  handle(method: number, handler: RpcHandler): void;
  /** Sends without an answer; returns false when the sender should wait for {@link onDrain}. */
  push(channel: number, payload: readonly Uint8Array[]): boolean;
  /** A listener that throws `MALFORMED` closes the connection. */
  onPush(channel: number, listener: (payload: Buffer) => void): void;
  onDrain(listener: () => void): void;
  onClose(listener: (cause: DaybookError) => void): void;
  close(): void;
}

const kinds = { call: 0, answer: 1, error: 2, push: 3 } as const;
const headerBytes = 7;

/** Takes a connection over. Frames: u8 kind, u32 call id, u16 method or channel, payload. */
export function rpcPeer(connection: Connection): RpcPeer {
  const pending = new TransitMap<number, PendingCall>();
  const handlers = new Map<number, RpcHandler>();
  const pushes = new Map<number, (payload: Buffer) => void>();
  const drains: (() => void)[] = [];
  const closes: ((cause: DaybookError) => void)[] = [];
  let nextId = 1;
  let closed: DaybookError | undefined;

  const send = (
    kind: number,
    id: number,
    method: number,
    payload: readonly Uint8Array[],
  ): boolean => {
    const header = Buffer.allocUnsafe(headerBytes);
    header[0] = kind;
    header.writeUInt32BE(id, 1);
    header.writeUInt16BE(method, 5);
    return connection.send([header, ...payload]);
  };
  const sendError = (id: number, error: unknown): void => {
    if (closed !== undefined) return;
    const json = JSON.stringify(toDaybookError(error).toJSON());
    send(kinds.error, id, 0, [Buffer.from(json)]);
  };
  const answer = (id: number, method: number, payload: Buffer): void => {
    const handler = handlers.get(method);
    if (handler === undefined) {
      sendError(id, new DaybookError('MALFORMED', `no method ${method}`, { details: { method } }));
      return;
    }
    try {
      const result = handler(payload);
      if (!(result instanceof Promise)) {
        send(kinds.answer, id, 0, result);
        return;
      }
      result
        .then((parts) => {
          if (closed === undefined) send(kinds.answer, id, 0, parts);
        })
        .catch((error: unknown) => sendError(id, error));
    } catch (error) {
      sendError(id, error);
    }
  };

  const deliver = (channel: number, payload: Buffer): void => {
    try {
      pushes.get(channel)?.(payload);
    } catch (error) {
      // Bad bytes end the connection; everything else is a bug of ours.
      if (!isDaybookError(error, 'MALFORMED')) throw error;
      connection.close();
    }
  };

  connection.onFrame((frame) => {
    if (frame.length < headerBytes) {
      connection.close();
      return;
    }
    const id = frame.readUInt32BE(1);
    const method = frame.readUInt16BE(5);
    const payload = frame.subarray(headerBytes);
    const kind = frame[0];
    if (kind === kinds.call) answer(id, method, payload);
    else if (kind === kinds.push) deliver(method, payload);
    else {
      const call = pending.delete(id);
      if (kind === kinds.answer) call?.resolve(payload);
      else call?.reject(errorOf(payload));
    }
  });
  connection.onDrain(() => {
    for (const listener of drains) listener();
  });
  connection.onClose((cause) => {
    closed = new DaybookError('PEER_UNREACHABLE', 'the connection to the peer closed', { cause });
    for (const call of pending.values()) call.reject(closed);
    pending.clear();
    for (const listener of closes.splice(0)) listener(closed);
  });

  return {
    call: (method, payload) =>
      new Promise((resolve, reject) => {
        if (closed !== undefined) {
          reject(closed);
          return;
        }
        if (pending.size >= limits.rpcCallsInFlightMax) {
          reject(
            new DaybookError('OVERLOADED', 'too many calls wait for the peer', {
              details: { limit: 'rpcCallsInFlightMax', max: limits.rpcCallsInFlightMax },
            }),
          );
          return;
        }
        const id = nextId;
        nextId = nextId === 0xffff_ffff ? 1 : nextId + 1;
        send(kinds.call, id, method, payload);
        pending.set(id, { resolve, reject });
      }),
    handle: (method, handler) => {
      handlers.set(method, handler);
    },
    push: (channel, payload) => closed === undefined && send(kinds.push, 0, channel, payload),
    onPush: (channel, listener) => {
      pushes.set(channel, listener);
    },
    onDrain: (listener) => {
      drains.push(listener);
    },
    onClose: (listener) => {
      if (closed === undefined) closes.push(listener);
      else listener(closed);
    },
    close: () => connection.close(),
  };
}

function errorOf(payload: Buffer): DaybookError {
  try {
    return DaybookError.fromJSON(JSON.parse(payload.toString('utf8')) as ErrorJson);
  } catch (cause) {
    return new DaybookError('MALFORMED', 'an error answer that is not JSON', { cause });
  }
}

interface PendingCall {
  readonly resolve: (payload: Buffer) => void;
  readonly reject: (error: DaybookError) => void;
}
