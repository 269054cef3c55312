import { ByteWriter, checkLimit, limits } from '../base/index.ts';
import { type Batch, decodeBatch, encodeTransaction, identityBytes } from '../model/index.ts';
import { fromBase64, fromHex, fromJsonBytes, malformed } from './json.ts';

/** JSON schema of a batch, for the documentation and as the first check of its shape. */
export const jsonBatchSchema = {
  type: 'object',
  required: ['batchId', 'creator', 'items'],
  properties: {
    batchId: { type: 'string', description: '16 random bytes, hexadecimal' },
    creator: {
      type: 'object',
      required: ['mspId', 'certificate'],
      properties: {
        mspId: { type: 'string' },
        certificate: { type: 'string', description: 'X.509, PEM' },
      },
    },
    signature: {
      type: 'string',
      description: 'Base64 of the DER signature over the batch signing bytes',
    },
    items: {
      type: 'array',
      items: {
        type: 'object',
        required: ['contract', 'function', 'nonce', 'timestampMs'],
        properties: {
          contract: { type: 'string' },
          contractVersion: { type: 'string' },
          function: { type: 'string' },
          args: { type: 'array', description: 'Each a string, or {"base64": …}' },
          nonce: { type: 'string', description: '24 random bytes, hexadecimal' },
          timestampMs: { type: 'integer' },
          orderingKey: { type: 'string' },
        },
      },
    },
  },
} as const;

interface JsonBatch {
  readonly batchId: string;
  readonly creator: { readonly mspId: string; readonly certificate: string };
  readonly signature?: string;
  readonly items: readonly {
    readonly contract: string;
    readonly contractVersion?: string;
    readonly function: string;
    readonly args?: readonly unknown[];
    readonly nonce: string;
    readonly timestampMs: number;
    readonly orderingKey?: string;
  }[];
}

/**
 * Reads a batch that {@link jsonBatchSchema} admitted. The canonical bytes, which are what was
 * signed, are made anew from the JSON, so both forms of a batch are one.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`
 */
export function batchFromJson(channel: string, body: unknown): Batch {
  // The schema sees nothing of a request without a body, or of one that is plain text.
  if (typeof body !== 'object' || body === null) throw malformed('body', 'there is no batch');
  const { batchId, creator, signature, items } = body as JsonBatch;
  checkLimit('batchTransactionsMax', items.length);
  const writer = new ByteWriter(4096);
  writer
    .u8(1)
    .text(channel)
    .raw(fromHex(batchId, 16, 'batchId'))
    .bytes(identityBytes(creator));
  writer.u8(0).u16(items.length);
  items.forEach((item, index) => {
    const what = (field: string): string => `items[${index}].${field}`;
    if (!Number.isSafeInteger(item.timestampMs) || item.timestampMs < 0) {
      throw malformed(what('timestampMs'), 'not a time');
    }
    const transaction = {
      channel,
      contract: item.contract,
      contractVersion: item.contractVersion ?? '',
      functionName: item.function,
      args: (item.args ?? []).map((value, at) => fromJsonBytes(value, what(`args[${at}]`))),
      nonce: fromHex(item.nonce, limits.nonceBytes, what('nonce')),
      timestampMs: item.timestampMs,
    };
    writer.bytes(encodeTransaction(transaction)).text(item.orderingKey ?? '');
    checkLimit('batchBytesMax', writer.length);
  });
  writer.bytes(fromBase64(signature, 'signature'));
  return decodeBatch(writer.finish());
}
