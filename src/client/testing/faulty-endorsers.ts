import { ByteWriter, DaybookError, type ErrorCode } from '../../base/index.ts';
import {
  asPosition,
  type BatchItem,
  decodeBatch,
  decodeRecord,
  EnvelopeWriter,
  encodeRecord,
  endorsedSource,
  type Position,
} from '../../model/index.ts';
import type { Message, Transport } from '../transport.ts';
import type { VirtualIo } from './virtual-io.ts';

/** Probabilities of what goes wrong, each in [0, 1]. */
export interface EndorserFaults {
  readonly unreachable: number;
  readonly overloaded: number;
  /** That an answer is lost; what was asked for is done before, later, or never. */
  readonly lostAnswer: number;
  /** That a node forgets all calls, as after a restart; records on their way go on. */
  readonly restart: number;
  /** That what was read has changed before the signature comes. */
  readonly stale: number;
  readonly refusal: number;
}

/** What took effect. */
export interface Effect {
  readonly txId: string;
  readonly argument: string;
}

type Answer =
  | { readonly status: 'committed'; readonly position: Position }
  | { readonly status: 'rejected'; readonly error: object };

/** What a node knows until it is started again. */
interface NodeMemory {
  /** Arguments of calls that wait for their signature, by transaction. */
  readonly prepared: Map<string, string>;
  /** Transactions that were sent; of one that is sent again the same becomes. */
  readonly sent: Map<string, Promise<Answer>>;
}

/**
 * Several nodes over one ledger that execute and endorse calls, and take their signatures later.
 * A transaction takes effect once at the most, and at the node that endorsed it only.
 */
export class FaultyEndorsers implements Transport {
  /** In the order of the log. */
  readonly effects: Effect[] = [];
  /** Nodes that nobody reaches any more. */
  readonly dead = new Set<string>();
  readonly #io: VirtualIo;
  readonly #faults: EndorserFaults;
  readonly #nodes = new Map<string, NodeMemory>();
  /** What the log says of transactions. */
  readonly #log = new Map<string, { valid: boolean; position: Position }>();
  /** Arguments of calls that were sent for their signature, one entry for each transaction. */
  readonly sent: Effect[] = [];

  constructor(io: VirtualIo, faults: Partial<EndorserFaults> = {}) {
    this.#io = io;
    const none = { unreachable: 0, overloaded: 0, lostAnswer: 0, restart: 0, stale: 0, refusal: 0 };
    this.#faults = { ...none, ...faults };
  }

  async post(gateway: string, path: string, { body }: Message): Promise<unknown> {
    await this.#arrive(gateway);
    if (this.#hits('overloaded')) throw new DaybookError('OVERLOADED', 'busy');
    const memory = this.#memory(gateway);
    const answer =
      path === 'prepare'
        ? this.#prepare(memory, body)
        : this.#submit(gateway, path.replace('prepared/', ''));
    // A rejection that nobody hears of is none.
    answer.catch(() => undefined);
    if (this.#hits('lostAnswer')) throw unreachable();
    const result = await answer;
    if (this.dead.has(gateway) || this.#memory(gateway) !== memory) throw unreachable();
    return result;
  }

  async getJson(gateway: string, path: string): Promise<unknown> {
    await this.#arrive(gateway);
    const found = this.#log.get(path.replace('transactions/', ''));
    if (found === undefined) throw new DaybookError('TRANSACTION_UNKNOWN', 'unknown');
    return { ...found, verdict: found.valid ? 'valid' : 'conflict' };
  }

  async #arrive(gateway: string): Promise<void> {
    await this.#io.sleep(this.#io.random.number() * 5);
    if (this.dead.has(gateway) || this.#hits('unreachable')) throw unreachable();
    if (this.#hits('restart')) this.#nodes.delete(gateway);
  }

  #memory(gateway: string): NodeMemory {
    let memory = this.#nodes.get(gateway);
    if (memory === undefined) {
      memory = { prepared: new Map(), sent: new Map() };
      this.#nodes.set(gateway, memory);
    }
    return memory;
  }

  async #prepare(memory: NodeMemory, body: Buffer): Promise<unknown> {
    const { items, creatorBytes } = decodeBatch(body);
    const [item] = items as [BatchItem];
    await this.#io.sleep(this.#io.random.number() * 20);
    if (this.#hits('refusal')) throw new DaybookError('CONTRACT_REJECTED', 'no');
    const argument = Buffer.from(item.transaction.args[0] ?? []).toString();
    memory.prepared.set(Buffer.from(item.txId).toString('hex'), argument);
    return { payload: payloadOf(item, creatorBytes).toString('base64') };
  }

  #submit(gateway: string, txId: string): Promise<Answer> {
    const { prepared, sent } = this.#memory(gateway);
    const known = sent.get(txId);
    if (known !== undefined) return known;
    const found = this.#log.get(txId);
    const argument = prepared.get(txId);
    if (argument === undefined) {
      if (found?.valid === true) {
        return Promise.resolve({ status: 'committed', position: found.position });
      }
      const code = found === undefined ? 'ENDORSEMENT_UNKNOWN' : 'ENDORSEMENT_STALE';
      return Promise.reject(new DaybookError(code, 'not known'));
    }
    prepared.delete(txId);
    this.sent.push({ txId, argument });
    const answer = this.#execute(gateway, { txId, argument }).finally(() => sent.delete(txId));
    sent.set(txId, answer);
    return answer;
  }

  async #execute(gateway: string, effect: Effect): Promise<Answer> {
    const { txId } = effect;
    await this.#io.sleep(this.#io.random.number() * 300);
    // A node that died before it wrote the record never will; one that dies later has written it.
    if (this.dead.has(gateway)) throw unreachable();
    if (this.#hits('stale')) {
      // Found before it was written, or by replay.
      if (this.#io.random.number() < 0.5) {
        this.#log.set(txId, { valid: false, position: asPosition(0) });
      }
      return rejected('ENDORSEMENT_STALE');
    }
    this.effects.push(effect);
    const position = asPosition(this.effects.length);
    this.#log.set(txId, { valid: true, position });
    return { status: 'committed', position };
  }

  #hits(fault: keyof EndorserFaults): boolean {
    return this.#io.random.number() < this.#faults[fault];
  }

  send(): Promise<void> {
    return Promise.reject(new DaybookError('NOT_FOUND', 'no batches here'));
  }

  lines(): AsyncIterable<string> {
    throw new DaybookError('NOT_FOUND', 'no reads here');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function rejected(code: ErrorCode): Answer {
  return { status: 'rejected', error: new DaybookError(code, code).toJSON() };
}

function unreachable(): DaybookError {
  return new DaybookError('PEER_UNREACHABLE', 'connection reset');
}

const envelopes = new EnvelopeWriter();

/** What the client is to sign: of a call that read and wrote nothing. */
function payloadOf(item: BatchItem, creator: Uint8Array): Buffer {
  const { txId, bytes: transactionBytes, transaction } = item;
  const writer = new ByteWriter(1024);
  encodeRecord(
    {
      type: 'call',
      txId,
      batch: 0,
      leaf: 0,
      transactionBytes,
      contractVersion: '1',
      sets: [],
      result: '',
      event: undefined,
    },
    writer,
  );
  const endorsement = { endorser: creator, signature: Buffer.alloc(70, 2), versions: [] };
  const record = decodeRecord(writer.finish());
  const source = endorsedSource(record, transaction, creator, endorsement);
  if (source === undefined) throw new Error('nothing was read');
  return Buffer.from(envelopes.payload(source));
}
