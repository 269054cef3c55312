import { type Bytestring, DaybookError } from '../base/index.ts';
import { type Reexecuted, Reexecution } from '../executor/index.ts';
import type { Io } from '../io/index.ts';
import {
  asPosition,
  type BlockVersion,
  decodeTransaction,
  type EndorserTransaction,
  type EnvelopeHead,
  EnvelopeWriter,
  headerTypes,
  type Position,
  ProtoMessage,
  readEndorserTransaction,
  readEnvelopeHead,
  stateKey,
  verdicts,
} from '../model/index.ts';
import { recordedUpdateOf, type StateWrite } from '../state/index.ts';
import { decodeBlock, metadataIndex } from './fabric/block.ts';
import { signedTransaction } from './verify-envelope.ts';

/** Counts of a {@link ChainExecution}. */
export interface ExecutionSummary {
  /** Transactions that gave the same envelope again. */
  readonly executed: number;
  /**
   * Transactions that gave another one after reading a key's history. That is no read that commits
   * depend on, so it may have been shorter when they were executed.
   */
  readonly notComparable: number;
}

/**
 * Executes every valid transaction of a chain again, from its blocks alone, and makes its envelope
 * again from what came out: it must be the one in the block, byte for byte. Invalid transactions
 * are not executed: what they saw is not on record.
 *
 * A valid transaction read what was current right before it, so that is the state it is executed
 * on. Versions in that state are numbers of blocks and transactions in one integer.
 */
export class ChainExecution {
  readonly #reexecution: Reexecution;
  readonly #writer = new EnvelopeWriter();
  #executed = 0;
  #notComparable = 0;

  constructor(io: Pick<Io, 'clock' | 'timers'>) {
    this.#reexecution = new Reexecution(io);
  }

  get summary(): ExecutionSummary {
    return { executed: this.#executed, notComparable: this.#notComparable };
  }

  /**
   * Executes the next block; it must have been verified otherwise.
   *
   * @throws {DaybookError} `PROOF_INVALID` with `details.transaction`
   */
  async next(bytes: Buffer): Promise<void> {
    const { header, envelopes, metadata } = decodeBlock(bytes);
    for (const [transaction, envelope] of envelopes.entries()) {
      const head = readEnvelopeHead(envelope);
      if (head.type !== headerTypes.endorserTransaction) continue;
      if (metadata[metadataIndex.transactionsFilter]?.[transaction] !== verdicts.valid) continue;
      const recorded = readEndorserTransaction(head.data);
      const problem = await this.#problem(envelope, head, recorded);
      if (problem !== undefined) {
        throw new DaybookError('PROOF_INVALID', `transaction ${head.txId}: ${problem}`, {
          details: { transaction, txId: head.txId },
        });
      }
      const position = packVersion({ block: header.number, transaction });
      const { timestampMs } = head;
      const txId = Buffer.from(head.txId, 'hex');
      const bulk = recordedUpdateOf(recorded.sets, { position, txId, timestampMs }, 0);
      this.#reexecution.apply(head, writesOf(recorded, position), bulk);
    }
  }

  async #problem(
    envelope: Buffer,
    head: EnvelopeHead,
    recorded: EndorserTransaction,
  ): Promise<string | undefined> {
    const { signing } = head;
    const [endorsement] = recorded.endorsements;
    const transactionBytes = signedTransaction(head, recorded);
    const again = await this.#reexecution.execute({
      kind: signing === undefined ? 'prepare' : 'submit',
      txId: Buffer.from(head.txId, 'hex'),
      leaf: signing?.leaf ?? 0,
      creator: head.creator,
      transactionBytes,
    });
    const made =
      again.kind === 'refused'
        ? undefined
        : this.#writer.write({
            record: again.record,
            transaction: decodeTransaction(transactionBytes),
            creator: head.creator,
            signature: head.signature,
            mode: signing === undefined ? 'single' : 'batch',
            batchId: signing?.batchId ?? Buffer.alloc(0),
            batchSize: signing?.size ?? 1,
            path: signing?.path ?? [],
            ...(signing === undefined && endorsement !== undefined ? { endorsement } : {}),
            executor: executorOf(recorded),
            versionOf: (version) => unpackVersion(version as Position),
          });
    if (made?.equals(envelope) === true) {
      this.#executed++;
      return undefined;
    }
    if (again.readHistory) {
      this.#notComparable++;
      return undefined;
    }
    return difference(again, made, recorded);
  }
}

/** Transactions of a block have numbers below this. */
const versionFactor = 2 ** 16;

function packVersion({ block, transaction }: BlockVersion): Position {
  return asPosition(block * versionFactor + transaction);
}

function unpackVersion(version: Position): BlockVersion {
  const transaction = version % versionFactor;
  return { block: (version - transaction) / versionFactor, transaction };
}

function writesOf({ sets }: EndorserTransaction, version: Position): StateWrite[] {
  return sets.flatMap(({ namespace, writes }) =>
    writes.map(({ key, value }) => ({ key: stateKey(namespace, key), value, version })),
  );
}

function executorOf({ endorsements }: EndorserTransaction): string {
  const endorser = endorsements[0]?.endorser ?? Buffer.alloc(0);
  return new ProtoMessage(endorser, 'endorser').text(2);
}

/** Says what is not the same, for people. */
function difference(
  again: Reexecuted,
  made: Buffer | undefined,
  recorded: EndorserTransaction,
): string {
  if (again.kind === 'refused' || made === undefined) {
    const why = again.kind === 'refused' ? `${again.code}: ${again.message}` : '';
    return `executed again, it is refused: ${why}`;
  }
  const now = readEndorserTransaction(readEnvelopeHead(made).data);
  if (!now.result.equals(recorded.result)) return 'executed again, it has another result';
  const keys = differentKeys(recorded, now);
  if (keys.length > 0) return `executed again, it writes other values: ${keys.join(', ')}`;
  return 'executed again, it reads or says something else';
}

const keysShownMax = 5;

function differentKeys(recorded: EndorserTransaction, now: EndorserTransaction): string[] {
  const before = valuesOf(recorded);
  const after = valuesOf(now);
  const all = new Set([...before.keys(), ...after.keys()]);
  return [...all]
    .filter((key) => before.has(key) !== after.has(key) || before.get(key) !== after.get(key))
    .slice(0, keysShownMax)
    .map((key) => key.replaceAll('\0', '/'));
}

function valuesOf({ sets }: EndorserTransaction): Map<Bytestring, Bytestring | undefined> {
  const values = new Map<Bytestring, Bytestring | undefined>();
  for (const { namespace, writes } of sets) {
    for (const { key, value } of writes) values.set(stateKey(namespace, key), value);
  }
  return values;
}
