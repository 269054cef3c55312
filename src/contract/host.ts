import { createHash } from 'node:crypto';
import {
  type Bytestring,
  bytestringOf,
  bytestringOfText,
  checkLimit,
  type ErrorCode,
  errorCatalog,
  textOf,
} from '../base/index.ts';
import type { AnswerRows, Answers, OpenCall } from './calls.ts';
import type { CreatorFacts } from './creator.ts';
import type { HostFunctions, HostReply } from './guest/host-functions.ts';
import type { CallOutcome } from './runtime.ts';

/** What the functions that guests call need of the runtime. */
export interface HostPort {
  readonly answers: Answers;
  find(id: number): OpenCall | undefined;
  creator(id: number): CreatorFacts;
  /** A state operation whose answer `keep` puts into {@link HostPort.answers}. */
  operate<T>(
    id: number,
    operation: (open: OpenCall) => T | Promise<T>,
    keep: (answer: T) => void,
  ): HostReply;
  later<T>(
    open: OpenCall,
    promise: Promise<T>,
    keep: (answer: T) => Bytestring | undefined,
  ): number;
  refused(open: OpenCall, error: unknown): false;
  ended(): false;
  invoke(id: number, contract: unknown, functionName: unknown, args: unknown[]): HostReply;
  end(open: OpenCall, outcome: CallOutcome): void;
  log(id: number, level: string, text: string): void;
}

/** The functions that guests call. All take and give primitives; see {@link HostFunctions}. */
export function hostFunctions(port: HostPort): HostFunctions {
  const { answers } = port;
  const keepNothing = (): void => undefined;
  const { latin1Write, latin1Slice, utf8Slice } = Buffer.prototype;
  const { utf8Write } = Buffer.prototype as unknown as {
    utf8Write: (this: Uint8Array, text: string, offset: number, length: number) => number;
  };
  return {
    get: (id, key) => {
      const open = port.find(id);
      if (open === undefined) return port.ended();
      try {
        const found = open.access.get(open.contract, bytestringOfText(key));
        if (typeof found === 'string' || found === undefined) return found;
        return port.later(open, found, (value) => value);
      } catch (error) {
        return port.refused(open, error);
      }
    },
    put: (id, key, value) => {
      const open = port.find(id);
      if (open === undefined) return port.ended();
      try {
        open.access.put(open.contract, bytestringOfText(key), value);
        return true;
      } catch (error) {
        return port.refused(open, error);
      }
    },
    delete: (id, key) => {
      const open = port.find(id);
      if (open === undefined) return port.ended();
      try {
        open.access.delete(open.contract, bytestringOfText(key));
        return true;
      } catch (error) {
        return port.refused(open, error);
      }
    },
    range: (id, start, startIsBytes, end, limit) =>
      port.operate(
        id,
        (open) =>
          open.access.range(
            open.contract,
            startIsBytes ? start : bytestringOfText(start),
            bytestringOfText(end),
            limit,
          ),
        (rows) => {
          answers.rows = stateRows(rows, '');
        },
      ),
    query: (id, query, limit, bookmark) =>
      port.operate(
        id,
        (open) => open.access.query(open.contract, query, limit, bookmark),
        (page) => {
          answers.rows = stateRows(page.rows, page.bookmark);
        },
      ),
    history: (id, key, limit, bookmark) =>
      port.operate(
        id,
        (open) => open.access.history(open.contract, bytestringOfText(key), limit, bookmark),
        ({ rows, bookmark: next }) => {
          answers.rows = {
            keys: rows.map(() => ''),
            values: rows.map((row) => row.value),
            txIds: rows.map((row) => row.txId),
            timestampsMs: rows.map((row) => row.timestampMs),
            bookmark: next,
          };
        },
      ),
    updateRange: (id, start, end, query, update) =>
      port.operate(
        id,
        (open) =>
          open.access.updateRange(
            open.contract,
            { start: bytestringOfText(start), end: bytestringOfText(end) },
            query,
            update,
          ),
        keepNothing,
      ),
    invoke: (id, contract, functionName, ...args) => port.invoke(id, contract, functionName, args),

    rowCount: () => answers.rows.keys.length,
    rowKey: (index) => textOf(answers.rows.keys[index] ?? ''),
    rowKeyBytes: (index) => answers.rows.keys[index] ?? '',
    rowValue: (index) => answers.rows.values[index],
    rowTxId: (index) => answers.rows.txIds[index] ?? '',
    rowTimestampMs: (index) => answers.rows.timestampsMs[index] ?? 0,
    rowBookmark: () => answers.rows.bookmark,

    lastError: () => answers.errorMessage,
    lastCode: () => answers.errorCode,

    argument: (id, index) => port.find(id)?.call.args[index] ?? '',
    binding: (id) => {
      const call = port.find(id)?.call;
      if (call === undefined) return '';
      // The last eight bytes are Fabric's epoch, always 0.
      const hash = createHash('sha256').update(call.nonce).update(call.creator);
      return hash.update(Buffer.alloc(8)).digest('hex');
    },
    nonce: (id) => bytestringOf(port.find(id)?.call.nonce ?? new Uint8Array()),
    channel: (id) => port.find(id)?.call.channel ?? '',
    txId: (id) => port.find(id)?.call.txId ?? '',
    mspId: (id) => port.creator(id).identity.mspId,
    certificate: (id) => port.creator(id).identity.certificate,
    clientIdentity: (id) => port.creator(id).json,

    setEvent: (id, name, payload) => {
      const open = port.find(id);
      if (open === undefined) return port.ended();
      try {
        checkLimit('nameBytesMax', Buffer.byteLength(name));
        checkLimit('valueBytesMax', payload.length);
      } catch (error) {
        return port.refused(open, error);
      }
      open.event = { name, payload };
      return true;
    },
    finished: (id, result, isText) => {
      const open = port.find(id);
      if (open === undefined) return;
      port.end(open, {
        ok: true,
        result: isText ? bytestringOfText(result) : result,
        event: open.event,
      });
    },
    refused: (id, code, message) => {
      const open = port.find(id);
      if (open === undefined) return;
      const known = code in errorCatalog ? (code as ErrorCode) : 'CONTRACT_REJECTED';
      port.end(open, {
        ok: false,
        code: contractCode(known),
        message: message.slice(0, messageLengthMax),
      });
    },
    log: (id, level, text) => port.log(id, level, text),

    hash: (algorithm, data) =>
      hashes.has(algorithm) ? createHash(algorithm).update(data, 'latin1').digest('hex') : '',

    latin1Write: (target, text) => {
      latin1Write.call(target, text, 0, text.length);
    },
    latin1Slice: (source) => latin1Slice.call(source),
    utf8Write: (target, text) => {
      utf8Write.call(target, text, 0, target.length);
    },
    utf8Slice: (source) => utf8Slice.call(source),
    utf8Length: (text) => Buffer.byteLength(text, 'utf8'),
  };
}

/** What of a contract's message reaches the client. */
const messageLengthMax = 4_096;

const hashes = new Set(['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'sha3-256']);

/** Errors of the state that a contract lets through are its refusal; the sandbox's keep their code. */
function contractCode(code: ErrorCode): ErrorCode {
  return code.startsWith('CONTRACT_') || code === 'QUERY_INVALID' ? code : 'CONTRACT_REJECTED';
}

function stateRows(
  rows: readonly { readonly key: Bytestring; readonly value: Bytestring }[],
  bookmark: Bytestring,
): AnswerRows {
  return {
    keys: rows.map((row) => row.key),
    values: rows.map((row) => row.value),
    txIds: [],
    timestampsMs: [],
    bookmark,
  };
}
