import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bytestringOf, textOf } from '../base/index.ts';
import { bundleContract } from './bundle.ts';
import { createContractRuntime } from './create-runtime.ts';
import type { StateAccess } from './runtime.ts';

/*
 * Replays what a Fabric 2.5.4 peer and the asset-transfer chaincode said to each other: our contract
 * must ask for the same keys, write the same bytes and answer the same.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const data = process.env.DAYBOOK_DATA ?? join(root, '../shared/data');
const recording = join(data, 'fabric/chaincode/shim.jsonl');

interface Message {
  readonly type: string;
  readonly txid?: string;
  readonly bytes: string;
}

interface Exchange {
  readonly txId: string;
  readonly args: readonly Buffer[];
  /** What the chaincode asked and wrote, in order. */
  readonly operations: string[];
  /** What the peer answered to reads, in order. */
  readonly answers: Buffer[];
  result: { status: number; message: string; payload: string } | undefined;
}

describe.skipIf(!existsSync(recording))('recorded exchanges of a real Fabric chaincode', () => {
  it('are the same with our contract', async () => {
    const bundle = await bundleContract(join(root, 'examples/contracts/asset-transfer'));
    const runtime = createContractRuntime({
      timers: { soon: (callback) => void setImmediate(callback) },
    });
    runtime.install(bundle);
    const exchanges = readExchanges();
    expect(exchanges.length).toBeGreaterThan(15);
    for (const exchange of exchanges) {
      const operations: string[] = [];
      const answers = [...exchange.answers];
      const outcome = await runtime.call(
        {
          channel: 'bench',
          contract: bundle.name,
          functionName: exchange.args[0]?.toString() ?? '',
          args: exchange.args.slice(1).map(bytestringOf),
          txId: exchange.txId,
          creator: new Uint8Array(),
          nonce: new Uint8Array(24),
          timestampMs: 0,
        },
        replaying(operations, answers),
      );
      expect(operations, exchange.txId).toEqual(exchange.operations);
      expect(
        outcome.ok
          ? { status: 200, message: '', payload: textOf(outcome.result) }
          : { status: 500, message: outcome.message, payload: '' },
      ).toEqual(exchange.result);
    }
  });
});

function replaying(operations: string[], answers: Buffer[]): StateAccess {
  const next = (): Buffer => answers.shift() ?? Buffer.alloc(0);
  return {
    get: (_namespace, key) => {
      operations.push(`GET_STATE ${textOf(key)}`);
      return bytestringOf(next()) || undefined;
    },
    put: (_namespace, key, value) => {
      operations.push(`PUT_STATE ${textOf(key)} ${textOf(value)}`);
    },
    delete: (_namespace, key) => {
      operations.push(`DEL_STATE ${textOf(key)}`);
    },
    range: (_namespace, start, end) => {
      operations.push(`GET_STATE_BY_RANGE ${textOf(start)} ${textOf(end)}`);
      return fields(next())
        .filter(([number]) => number === 1)
        .map(([, row]) => {
          const kv = field(row, 1);
          return { key: bytestringOf(field(kv, 2)), value: bytestringOf(field(kv, 3)) };
        });
    },
    query: () => ({ rows: [], bookmark: '' }),
    history: () => ({ rows: [], bookmark: '' }),
    updateRange: () => undefined,
  };
}

function readExchanges(): Exchange[] {
  const byId = new Map<string, Exchange>();
  let awaited = '';
  for (const line of readFileSync(recording, 'utf8').trim().split('\n')) {
    const { type, txid, bytes } = JSON.parse(line) as Message;
    if (txid === undefined) continue;
    const payload = field(Buffer.from(bytes, 'base64'), 3);
    if (type === 'TRANSACTION') {
      const args = fields(payload).map(([, arg]) => arg);
      byId.set(txid, { txId: txid, args, operations: [], answers: [], result: undefined });
    }
    const exchange = byId.get(txid);
    if (exchange === undefined) continue;
    const texts = [field(payload, 1).toString(), field(payload, 2).toString()];
    if (type === 'PUT_STATE' || type === 'GET_STATE_BY_RANGE') {
      exchange.operations.push(`${type} ${texts.join(' ')}`);
    } else if (type === 'GET_STATE' || type === 'DEL_STATE') {
      exchange.operations.push(`${type} ${texts[0]}`);
    } else if (type === 'RESPONSE' && awaited.startsWith('GET_')) {
      exchange.answers.push(payload);
    } else if (type === 'COMPLETED') {
      const status = (payload[1] ?? 0) & 0x7f ? readVarint(payload, 1) : 0;
      exchange.result = { status, message: texts[1] ?? '', payload: field(payload, 3).toString() };
    }
    awaited = type;
  }
  return [...byId.values()];
}

/** The length-delimited fields of a protobuf message. */
function fields(bytes: Buffer): [number, Buffer][] {
  const found: [number, Buffer][] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    at += varintLength(bytes, at);
    const value = readVarint(bytes, at);
    at += varintLength(bytes, at);
    if ((tag & 7) !== 2) continue;
    found.push([tag >> 3, bytes.subarray(at, at + value)]);
    at += value;
  }
  return found;
}

function field(bytes: Buffer, number: number): Buffer {
  return fields(bytes).find(([one]) => one === number)?.[1] ?? Buffer.alloc(0);
}

function readVarint(bytes: Buffer, at: number): number {
  let value = 0;
  for (let index = 0; index < varintLength(bytes, at); index++) {
    value += ((bytes[at + index] ?? 0) & 0x7f) * 2 ** (7 * index);
  }
  return value;
}

function varintLength(bytes: Buffer, at: number): number {
  let length = 1;
  while ((bytes[at + length - 1] ?? 0) >= 0x80) length++;
  return length;
}
