import { bytestringOf, DaybookError } from '../../base/index.ts';
import type { Executor } from '../../executor/index.ts';
import {
  type Address,
  asAddress,
  type Batch,
  type ChannelConfig,
  type CommitRecord,
  channelConfigDefaults,
  IdentityVerifier,
  type MspConfig,
  nextAddress,
  type Outcome,
  type Position,
  positionOf,
  type Transaction,
  verdicts,
} from '../../model/index.ts';
import type { AppliedEntry } from '../../replica/index.ts';
import type { DeployedContract, GatewayBackend } from '../backend.ts';

/**
 * A ledger in memory for tests: every call is a transaction that appends its first argument to the
 * list under its contract's name and returns the list's new length. `refuse` throws, `event`
 * announces, `later` settles only when told. Several backends may share one ledger, as the nodes of
 * one network do.
 */
export class FakeLedger {
  readonly entries: AppliedEntry[] = [];
  readonly lists = new Map<string, string[]>();
  readonly committed = new Map<string, { position: Position; result: string }>();
  readonly held: (() => void)[] = [];
  #waiters: (() => void)[] = [];

  get next(): Address {
    return asAddress(this.entries.length);
  }

  /** Executes one batch as one entry. */
  execute(batch: Batch, onOutcome: (index: number, outcome: Outcome) => void): void {
    const address = this.next;
    const records: { position: Position; record: CommitRecord; verdict: 0 }[] = [];
    const answers: (() => void)[] = [];
    batch.items.forEach(({ transaction, txId: id, bytes }, index) => {
      const txId = Buffer.from(id).toString('hex');
      const answer = (outcome: Outcome): void => {
        const settle = (): void => onOutcome(index, outcome);
        if (transaction.functionName === 'later') this.held.push(settle);
        else answers.push(settle);
      };
      const earlier = this.committed.get(txId);
      if (earlier !== undefined) {
        answer({ status: 'committed', ...earlier });
        return;
      }
      if (transaction.functionName === 'refuse') {
        const error = new DaybookError('CONTRACT_REJECTED', 'refused').toJSON();
        answer({ status: 'rejected', error });
        return;
      }
      const position = positionOf(address, records.length);
      const result = this.#append(transaction);
      const record: CommitRecord = {
        type: 'call',
        txId: id,
        batch: 0,
        leaf: index,
        transactionBytes: bytes,
        contractVersion: '1',
        sets: [],
        result,
        event:
          transaction.functionName === 'event'
            ? { name: 'added', payload: bytestringOf(transaction.args[0] ?? new Uint8Array()) }
            : undefined,
      };
      records.push({ position, record, verdict: verdicts.valid });
      this.committed.set(txId, { position, result });
      answer({ status: 'committed', position, result });
    });
    if (records.length > 0) {
      const entry = {
        kind: 'records' as const,
        writer: 'fake',
        timestampMs: 1,
        identities: [],
        batches: [],
        records: [],
      };
      this.entries.push({ address, entry, records, logTimeMs: 1 });
    }
    for (const answer of answers) answer();
    this.wake();
  }

  /** Lets an entry without events pass. */
  tick(): void {
    const entry = { kind: 'tick' as const, writer: 'fake', timestampMs: 1 };
    this.entries.push({ address: this.next, entry, records: [], logTimeMs: 1 });
    this.wake();
  }

  wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }

  /** Resolves at the next entry. */
  changed(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      signal?.addEventListener('abort', () => resolve());
    });
  }

  #append({ contract, args }: Transaction): string {
    const list = this.lists.get(contract) ?? [];
    this.lists.set(contract, list);
    list.push(Buffer.from(args[0] ?? new Uint8Array()).toString('utf8'));
    return String(list.length);
  }
}

/** A node over a {@link FakeLedger}. */
export class FakeBackend implements GatewayBackend {
  readonly channel: string;
  readonly ledger: FakeLedger;
  readonly executor: Executor;
  ready = true;
  /** Thrown by `submit` while set. */
  failure: DaybookError | undefined;
  readonly batches: Batch[] = [];
  readonly #config: ChannelConfig;
  readonly #verifier: IdentityVerifier;

  constructor(channel: string, msps: readonly MspConfig[], ledger = new FakeLedger()) {
    this.channel = channel;
    this.ledger = ledger;
    const ids = msps.map((msp) => msp.mspId);
    this.#config = {
      ...channelConfigDefaults,
      channel,
      msps,
      access: { submit: ids, deploy: ids.slice(0, 1), administer: ids.slice(0, 1) },
    };
    this.#verifier = new IdentityVerifier(msps);
    this.executor = {
      submit: (batch, _deadlineMs, onOutcome) => {
        if (this.failure !== undefined) throw this.failure;
        this.batches.push(batch);
        ledger.execute(batch, onOutcome);
      },
      evaluate: async ({ contract, functionName, args }) => {
        if (functionName === 'refuse') throw new DaybookError('CONTRACT_REJECTED', 'refused');
        if (functionName === 'length') return String(ledger.lists.get(contract)?.length ?? 0);
        return bytestringOf(args[0] ?? new Uint8Array());
      },
      prepare: async () => Buffer.from('payload'),
      submitPrepared: (_txId, _signature, _deadlineMs, onOutcome) => {
        const position = positionOf(ledger.next, 0);
        onOutcome({ status: 'committed', position, result: '' });
      },
      close: async () => undefined,
    };
  }

  config(): ChannelConfig {
    return this.#config;
  }

  verifier(): IdentityVerifier {
    return this.#verifier;
  }

  logTimeMs = (): number => Date.now();

  nextAddress(): Address {
    return this.ledger.next;
  }

  async waitFor(position: Position, waitMs: number): Promise<boolean> {
    const signal = AbortSignal.timeout(waitMs);
    while (position >= positionOf(this.ledger.next, 0)) {
      if (signal.aborted) return false;
      await this.ledger.changed(signal);
    }
    return true;
  }

  status(txId: string): { position: Position; verdict: 0 } | undefined {
    const known = this.ledger.committed.get(txId);
    return known === undefined ? undefined : { position: known.position, verdict: verdicts.valid };
  }

  async read(from: Address, limit: number): Promise<readonly AppliedEntry[]> {
    return this.ledger.entries.slice(from, from + limit);
  }

  async *follow(from: Address, signal: AbortSignal): AsyncGenerator<readonly AppliedEntry[]> {
    let next = from;
    while (!signal.aborted) {
      const page = this.ledger.entries.slice(next, next + 64);
      const last = page.at(-1);
      if (last === undefined) await this.ledger.changed(signal);
      else {
        next = nextAddress(last.address);
        yield page;
      }
    }
  }

  contracts(): readonly DeployedContract[] {
    return [{ name: 'list', version: '1', sequence: 1 }];
  }

  health(): { ready: boolean; reason?: string } {
    return this.ready ? { ready: true } : { ready: false, reason: 'catching up' };
  }

  metrics(): Readonly<Record<string, number>> {
    return { nextAddress: this.ledger.next };
  }
}
