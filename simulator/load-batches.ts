import { type Batch, decodeBatch, signBatch, type TxId } from '../src/model/index.ts';
import type { SimCall } from './client.ts';
import { account, bulkRowCount, bulkRowKey, contractName } from './contracts.ts';
import { simulatedSigner } from './identity.ts';
import { type Chance, chanceOf } from './random.ts';

/** A signed batch as a client sends it. */
export interface SignedCalls {
  readonly bytes: Buffer;
  readonly txIds: readonly TxId[];
  readonly functionNames: readonly string[];
}

/** Which batch of the load workload. */
export interface LoadBatchOf {
  readonly channel: string;
  /** Number of the client, of so many. */
  readonly client: number;
  readonly clients: number;
  readonly accounts: number;
  readonly calls: number;
  /** Number of the batch among the client's. */
  readonly number: number;
  /** Virtual time since the beginning, in {@link loadBatchAgeMs}. */
  readonly age: number;
}

interface KnownBatch extends SignedCalls {
  /** What a gateway reads out of the bytes. */
  decoded: Batch | undefined;
  isVerified: boolean;
}

/** Signed batches that the process keeps at most; others are signed anew in every world. */
const keptBytesMax = 384 * 1024 * 1024;
/** Transactions of batches that are kept decoded. */
const decodedMax = 500_000;
/** Bytes at the end of a batch that tell it from others: its signature's. */
const tellingBytes = 16;
const startOfTimeMs = 1_800_000_000_000;
/** Batches are made anew as often; less than the lifetime of a transaction. */
export const loadBatchAgeMs = 45_000;

const kept = new Map<string, KnownBatch>();
/** Kept ones by their last bytes. */
const byEnd = new Map<string, KnownBatch>();
let keptBytes = 0;
let decodedCount = 0;

/**
 * A batch of the load workload. What is in it depends on nothing but its name, so that every world
 * of the process sends the same bytes, and signing, decoding and verifying them costs once; the seed
 * draws which of them are sent, when, and what happens to them.
 */
export function loadBatch(of: LoadBatchOf): SignedCalls {
  const { channel, client, clients, accounts, calls, number, age } = of;
  const name = [channel, client, clients, accounts, calls, number, age].join(' ');
  const known = kept.get(name);
  if (known !== undefined) return known;
  let seed = 0x811c_9dc5;
  for (let at = 0; at < name.length; at++) {
    seed = Math.imul(seed ^ name.charCodeAt(at), 0x0100_0193);
  }
  const chance = chanceOf(seed);
  const bytesOf = (count: number): Buffer => {
    const bytes = Buffer.allocUnsafe(count);
    for (let at = 0; at < count; at++) bytes[at] = chance.below(256);
    return bytes;
  };
  const timestampMs = startOfTimeMs + (age + 1) * loadBatchAgeMs;
  const drawn = Array.from({ length: calls }, () => loadCall(chance, of));
  const batchId = bytesOf(16);
  const signed = signBatch(
    simulatedSigner,
    channel,
    batchId,
    drawn.map(({ contract, functionName, args }) => ({
      transaction: {
        channel,
        contract,
        contractVersion: '',
        functionName,
        args: args.map((arg) => Buffer.from(arg)),
        nonce: bytesOf(24),
        timestampMs,
      },
    })),
  );
  const functionNames = drawn.map(({ functionName }) => functionName);
  const batch = { ...signed, functionNames, decoded: undefined, isVerified: false };
  if (keptBytes + signed.bytes.length <= keptBytesMax) {
    keptBytes += signed.bytes.length;
    kept.set(name, batch);
    byEnd.set(endOf(signed.bytes), batch);
  }
  return batch;
}

/**
 * Decodes a batch, unless these very bytes were decoded before; nobody changes what was.
 *
 * @throws {DaybookError} as `decodeBatch`.
 */
export function decodeOnce(bytes: Buffer): Batch {
  const known = knownBatch(bytes);
  if (known?.decoded !== undefined) return known.decoded;
  if (known === undefined || decodedCount >= decodedMax) return decodeBatch(bytes);
  known.decoded = decodeBatch(known.bytes);
  decodedCount += known.decoded.items.length;
  return known.decoded;
}

/**
 * Verifies a batch, unless these very bytes were found good before: in every world the same member
 * of the same organisation signs.
 *
 * @throws {DaybookError} what `verify` throws.
 */
export function verifyOnce(bytes: Buffer, verify: () => void): void {
  const known = knownBatch(bytes);
  if (known?.isVerified === true) return;
  verify();
  if (known !== undefined) known.isVerified = true;
}

function knownBatch(bytes: Buffer): KnownBatch | undefined {
  const known = byEnd.get(endOf(bytes));
  return known?.bytes.equals(bytes) === true ? known : undefined;
}

function endOf(bytes: Buffer): string {
  return bytes.latin1Slice(Math.max(0, bytes.length - tellingBytes));
}

/** Mostly over a client's own accounts; some meet another client's. */
function loadCall(chance: Chance, { client, clients, accounts }: LoadBatchOf): SimCall {
  const own = Math.floor(accounts / clients);
  const one = (): string => account(client * own + chance.below(own));
  const pick = chance.below(200);
  if (pick < 100) return money('move', one(), one(), String(chance.below(10)));
  if (pick < 196) return money('count', `c${client}.${chance.below(500)}`);
  if (pick < 198) return money('move', one(), account(chance.below(accounts)), '1');
  if (pick < 199) return money('sum', 'a1', 'a11', `s${chance.below(3)}`);
  return money('raiseOne', bulkRowKey(chance.below(bulkRowCount)));
}

function money(functionName: string, ...args: string[]): SimCall {
  return { contract: contractName, functionName, args };
}
