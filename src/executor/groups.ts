import { assert, type Bytestring, type ErrorCode, limits, TransitMap } from '../base/index.ts';
import type { Token } from '../log/index.ts';
import {
  type Address,
  indexOf,
  type Position,
  patchVersion,
  positionOf,
  recordHeadBytes,
  stateKey,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';
import { type Grant, markUrgent } from '../sequencer/index.ts';
import { type RecordedUpdate, recordedUpdateOf } from '../state/index.ts';
import type { EntryRecord } from './entry-builder.ts';
import type { VersionReference } from './frames.ts';
import type { Job } from './job.ts';
import { Numbered } from './numbered.ts';

/** One finished call on its way to the log. */
export interface Execution {
  /** `undefined`: it was prepared earlier; the contract process holds nothing of it. */
  readonly number: number | undefined;
  readonly job: Job;
  /** What the call made of the record. */
  readonly body: Buffer;
  readonly summary: Buffer;
  /** Where versions are to be filled in, and whose; empty once its group has a token. */
  reads: readonly PendingRead[];
  /**
   * `open`: waits for its group. `sequencing`: asked for. `written`: may be in the log; its fate
   * must be known before anything else happens to the job. `settled`: over.
   */
  stage: 'open' | 'sequencing' | 'written' | 'settled';
  /**
   * What later reads of its writes are worth: nothing is known, valid there, or lost. A record that
   * is `failed` but `written` read from a failed one: replay will find it invalid.
   */
  fate: Position | 'failed' | undefined;
  /** Where it stands, once a token is there. */
  position: Position | undefined;
  index: number;
  group: Group | undefined;
  /** Executions and refusals that read from this one. */
  dependents: (Execution | PendingRefusal)[] | undefined;
}

/** A read of another execution's write. */
interface PendingRead extends Omit<VersionReference, 'execution'> {
  readonly source: Execution;
}

const noReads: readonly PendingRead[] = [];

/** A refusal that rests on values in flight: told only if they become valid. */
interface PendingRefusal {
  readonly job: Job;
  readonly code: ErrorCode;
  readonly message: string;
  /** References with an open fate. */
  open: number;
  over: boolean;
}

/** Records that go to the log together. */
export interface Group {
  readonly executions: readonly Execution[];
  token: Token | undefined;
  /** The write is durable, or its fate is known otherwise: its slot is free. */
  done: boolean;
}

/** What the core asks its shell to do. */
export interface GroupEffects {
  /** Ask the sequencer; answer with `granted`, `notGranted` or `postpone`. */
  request(group: Group): void;
  /** Write an entry at the group's token; answer with `durable` or `lost`. */
  write(group: Group, records: readonly EntryRecord[]): void;
  /** Close the hole of a token that is not used. */
  fill(address: Address): void;
  /** Tell the contract process, in this order. */
  own(execution: number, position: Position): void;
  failed(execution: number): void;
  foreign(key: Bytestring, value: Bytestring | undefined, version: Position): void;
  /** A record's bulk update took effect; before `own` or `foreign` of the same record. */
  bulk(update: RecordedUpdate): void;
  /** The job's record is valid there. */
  committed(job: Job, position: Position, result: Bytestring): void;
  /** The job's record is in the log, but invalid for a reason that another attempt does not mend. */
  invalid(job: Job, applied: AppliedRecord): void;
  refused(job: Job, code: ErrorCode, message: string): void;
  /** Nothing of the job is in the log: execute it again. */
  again(job: Job, cause: RetryCause): void;
}

/** Why a job is executed again. */
export type RetryCause = 'sequencer' | 'replay' | 'dependency' | 'lost';

/** What {@link Groups} are told once. */
export interface GroupSettings {
  /** The node's name, as it stands in its entries. */
  readonly writer: string;
  /** Mode `batch`: a group holds the records of one unit, all of them. */
  readonly byUnit: boolean;
  readonly groupBytesMax?: number;
  readonly groupsInFlightMax?: number;
}

/** Bytes of an entry besides the records' own, at most: so that `entryBytesMax` is kept. */
const entryOverheadBytesMax = 1024 * 1024;
const recordOverheadBytes = 8;
/** From this execution on, the sequencer keeps a transaction's keys for it. */
const urgentAttempts = 3;

/**
 * Groups as a state machine without I/O. Finished records wait in order; while fewer than
 * `groupsInFlightMax` groups are being written and the previous one has its token, what waits
 * becomes the next group. So a lone record leaves at once, and groups grow under load by
 * themselves. Tokens are taken in order, writes overlap.
 *
 * A record may have read values of records before it (in its group or an earlier one). Their
 * positions are filled in when the group is closed, since by then they are known. When a record
 * fails, those that read from it fail too, before anything else can read from them.
 */
export class Groups {
  readonly #effects: GroupEffects;
  readonly #settings: GroupSettings;
  readonly #groupBytesMax: number;
  readonly #groupsInFlightMax: number;
  #open: Execution[] = [];
  /**
   * Groups with a token, by address, until replay has passed it. A sequencer that was deposed and
   * does not know may grant what its successor grants too: at most one of them is written there.
   */
  readonly #written = new TransitMap<Address, Group[]>();
  #sequencing: Group | undefined;
  #writing = 0;
  /** Executions that a record to come may refer to. */
  readonly #known = new Numbered<Execution>();
  /** Fates told to the contract process in a frame that it has not taken in yet. */
  #told: number[] = [];
  readonly #toldFrames: { frame: number; executions: number[] }[] = [];
  #live = 0;
  #count = 0;

  constructor(effects: GroupEffects, settings: GroupSettings) {
    this.#effects = effects;
    this.#settings = settings;
    this.#groupBytesMax = settings.byUnit
      ? limits.entryBytesMax - entryOverheadBytesMax
      : (settings.groupBytesMax ?? limits.groupBytesMax);
    this.#groupsInFlightMax = settings.groupsInFlightMax ?? limits.groupsInFlightMax;
  }

  /** Executions whose fate is open. */
  get live(): number {
    return this.#live;
  }

  /** Groups closed so far. */
  get count(): number {
    return this.#count;
  }

  /** Takes a record in that was executed earlier, on committed state. */
  addPrepared(job: Job, body: Buffer, summary: Buffer): void {
    this.#push(undefined, job, body, summary);
  }

  #push(number: number | undefined, job: Job, body: Buffer, summary: Buffer): Execution {
    const execution: Execution = {
      number,
      job,
      body,
      summary,
      reads: noReads,
      stage: 'open',
      fate: undefined,
      position: undefined,
      index: -1,
      group: undefined,
      dependents: undefined,
    };
    this.#live++;
    this.#open.push(execution);
    return execution;
  }

  /** Takes a finished call in. */
  add(
    job: Job,
    number: number,
    body: Buffer,
    summary: Buffer,
    references: readonly VersionReference[],
  ): void {
    const execution = this.#push(number, job, body, summary);
    this.#known.add(number, execution);
    if (references.length === 0) return;
    const reads: PendingRead[] = [];
    for (const { execution: read, bodyOffset, summaryOffset } of references) {
      const source = this.#known.get(read);
      if (source === undefined || source.fate === 'failed') {
        this.#fail([execution], 'dependency');
        return;
      }
      reads.push({ bodyOffset, summaryOffset, source });
      if (source.fate === undefined) addDependent(source, execution);
    }
    execution.reads = reads;
  }

  /** Takes a refusal in that rests on values in flight. */
  addRefusal(job: Job, code: ErrorCode, message: string, references: readonly number[]): void {
    const refusal: PendingRefusal = { job, code, message, open: 0, over: false };
    for (const number of references) {
      const source = this.#known.get(number);
      if (source === undefined || source.fate === 'failed') {
        refusal.over = true;
        this.#effects.again(job, 'dependency');
        return;
      }
      if (source.fate !== undefined) continue;
      refusal.open++;
      addDependent(source, refusal);
    }
    if (refusal.open === 0) {
      refusal.over = true;
      this.#effects.refused(job, code, message);
    }
  }

  /** Closes the open group if there is a slot. Call after anything has changed. */
  pump(): void {
    while (
      this.#open.length > 0 &&
      this.#sequencing === undefined &&
      this.#writing < this.#groupsInFlightMax
    ) {
      const group = this.#close();
      if (group === undefined) continue;
      this.#sequencing = group;
      this.#count++;
      this.#effects.request(group);
    }
  }

  /** The sequencer's answer. */
  granted(group: Group, grant: Grant): void {
    this.#sequencing = undefined;
    const { token, conflicts } = grant;
    const { executions } = group;
    const refused = executions.filter((_, index) => conflicts[index] !== undefined);
    if (refused.length > 0) this.#fail(refused, 'sequencer');
    if (token === undefined) return;
    // Whoever was told meanwhile that it was not done must be right.
    const lost = executions.filter(
      (execution) => execution.job.answered || this.#isRisky(execution, token),
    );
    if (lost.length > 0) this.#fail(lost, 'lost');
    const survivors = executions.filter(({ fate }) => fate === undefined);
    if (survivors.length === 0) {
      this.#effects.fill(token.address);
      return;
    }
    group.token = token;
    const rivals = this.#written.get(token.address);
    if (rivals === undefined) this.#written.set(token.address, [group]);
    else rivals.push(group);
    this.#writing++;
    for (const execution of survivors) {
      execution.stage = 'written';
      execution.position = positionOf(token.address, execution.index);
      // Kept no longer: on hot keys they would chain all executions that ever were.
      execution.reads = noReads;
      execution.job.onItsWay = true;
    }
    this.#effects.write(group, survivors);
  }

  /** There is no token, and will be none: the records are executed again. */
  notGranted(group: Group): void {
    this.#sequencing = undefined;
    this.#fail(
      group.executions.filter((execution) => execution.fate === undefined),
      'sequencer',
    );
  }

  /** The sequencer is away: the records wait for another try. */
  postpone(group: Group): void {
    this.#sequencing = undefined;
    const waiting = group.executions.filter((execution) => execution.fate === undefined);
    for (const execution of waiting) {
      execution.stage = 'open';
      execution.group = undefined;
    }
    this.#open = [...waiting, ...this.#open];
  }

  /** The entry is durable at its address. */
  durable(group: Group): void {
    this.#free(group);
  }

  /** The entry is certainly not in the log, and will not be. */
  lost(group: Group): void {
    const { token } = group;
    if (token === undefined || !this.#forget(group, token.address)) return;
    this.#free(group);
    const members = group.executions.filter((execution) => execution.stage === 'written');
    for (const execution of members) this.#settle(execution);
    this.#fail(
      members.filter((execution) => execution.fate === undefined),
      'lost',
    );
    for (const { job } of members) this.#effects.again(job, 'lost');
  }

  /** Replay has passed an entry: fates of own records, writes of others. */
  applied(entry: AppliedEntry): void {
    const groups = this.#written.get(entry.address) ?? [];
    const own = groups.find((group) => this.#isOwn(entry, group));
    for (const group of [...groups]) if (group !== own) this.lost(group);
    let at = 0;
    for (const applied of entry.records) {
      const execution = own === undefined ? undefined : nextMember(own, applied, at);
      if (execution === undefined) {
        if (applied.verdict === verdicts.valid) this.#foreign(applied);
        continue;
      }
      at = execution.index + 1;
      this.#passed(execution, applied);
    }
    if (own === undefined) return;
    this.#forget(own, entry.address);
    this.#free(own);
    // Bytes of ours that replay could not read: nothing of them took effect.
    for (const execution of own.executions) {
      if (execution.stage !== 'written') continue;
      this.#settle(execution);
      if (execution.fate === undefined) this.#fail([execution], 'lost');
      this.#effects.again(execution.job, 'lost');
    }
  }

  /** All fates told so far leave in frame number `frame`. */
  sent(frame: number): void {
    if (this.#told.length === 0) return;
    this.#toldFrames.push({ frame, executions: this.#told });
    this.#told = [];
  }

  /** The contract process has taken in that frame: nothing refers to those executions any more. */
  acknowledged(frame: number): void {
    for (let first = this.#toldFrames[0]; first !== undefined; first = this.#toldFrames[0]) {
      if (first.frame > frame) return;
      this.#toldFrames.shift();
      first.executions.forEach((number) => {
        this.#known.take(number);
      });
    }
  }

  /** A new contract process begins: it knows nothing of earlier executions. */
  forgetAll(): void {
    assert(this.#live === 0, 'a contract process begins when no fate is open');
    this.#known.clear();
    this.#told = [];
    this.#toldFrames.length = 0;
  }

  #close(): Group | undefined {
    let bytes = 0;
    let count = 0;
    const members: Execution[] = [];
    let unit: number | undefined;
    for (const execution of this.#open) {
      if (execution.fate === undefined && execution.job.answered) {
        // Nobody waits for it any more.
        this.#fail([execution], 'lost');
      }
      if (execution.fate !== undefined) {
        count++;
        continue;
      }
      const { body, job } = execution;
      const size = recordHeadBytes(job.item.bytes.length) + body.length + recordOverheadBytes;
      if (members.length > 0) {
        if (bytes + size > this.#groupBytesMax) break;
        if (this.#settings.byUnit && execution.job.unit !== unit) break;
      }
      unit = execution.job.unit;
      if (members.length >= limits.recordsPerEntryMax) break;
      bytes += size;
      count++;
      members.push(execution);
    }
    this.#open.splice(0, count);
    if (members.length === 0) return undefined;
    const group: Group = { executions: members, token: undefined, done: false };
    members.forEach((execution, index) => {
      execution.stage = 'sequencing';
      execution.group = group;
      execution.index = index;
      if (execution.job.attempts >= urgentAttempts) markUrgent(execution.summary);
      this.#fillIn(execution, group);
    });
    return group;
  }

  /** Fills in the versions that were not known when the call was executed. */
  #fillIn(execution: Execution, group: Group): void {
    for (const { bodyOffset, summaryOffset, source } of execution.reads) {
      const version = source.group === group ? { index: source.index } : source.position;
      assert(version !== undefined, 'earlier groups have their tokens');
      if (bodyOffset !== undefined) patchVersion(execution.body, bodyOffset, version);
      patchVersion(execution.summary, summaryOffset, version);
    }
  }

  /**
   * Whether a record refers to a position that a record of somebody else may come to hold: the
   * source has a token of another reign and is not durable. If its address was granted anew, the
   * version would match and the value would not. Within one reign an address ends as ours or as a
   * fill, and everything below a durable entry is granted only once.
   */
  #isRisky(execution: Execution, token: Token): boolean {
    if (execution.fate !== undefined) return false;
    for (const { source } of execution.reads) {
      const { group } = source;
      const sourceToken = group?.token;
      if (sourceToken !== undefined && !group?.done && sourceToken.epoch !== token.epoch) {
        return true;
      }
    }
    return false;
  }

  #isOwn(entry: AppliedEntry, group: Group): boolean {
    if (entry.entry?.kind !== 'records' || entry.entry.writer !== this.#settings.writer) {
      return false;
    }
    // A node of the same name may have written before a restart; the transactions tell.
    const first = entry.records[0];
    const member = first && group.executions[indexOf(first.position)];
    return first === undefined || sameTransaction(member, first);
  }

  #passed(execution: Execution, applied: AppliedRecord): void {
    const { job } = execution;
    this.#settle(execution);
    job.onItsWay = false;
    if (applied.verdict === verdicts.valid) {
      if (execution.fate === undefined) {
        execution.fate = applied.position;
        if (execution.number === undefined) this.#foreign(applied);
        else {
          this.#bulk(applied);
          this.#effects.own(execution.number, applied.position);
          this.#told.push(execution.number);
        }
        this.#release(execution);
      } else {
        // Its writes were taken out of the contract process already.
        this.#foreign(applied);
      }
      this.#effects.committed(job, applied.position, applied.record.result);
      return;
    }
    if (execution.fate === undefined) this.#fail([execution], 'replay');
    const { verdict } = applied;
    if (
      verdict === verdicts.readConflict ||
      verdict === verdicts.phantomReadConflict ||
      verdict === verdicts.contractVersion
    ) {
      this.#effects.again(job, 'replay');
    } else {
      this.#effects.invalid(job, applied);
    }
  }

  #release(execution: Execution): void {
    if (execution.dependents === undefined) return;
    for (const dependent of execution.dependents) {
      if (!('open' in dependent) || dependent.over) continue;
      dependent.open--;
      if (dependent.open > 0) continue;
      dependent.over = true;
      this.#effects.refused(dependent.job, dependent.code, dependent.message);
    }
    execution.dependents = undefined;
  }

  /** Fails executions and, in turn, all that read from them. */
  #fail(executions: readonly Execution[], cause: RetryCause): void {
    const work: { item: Execution | PendingRefusal; cause: RetryCause }[] = [];
    for (const item of executions) work.push({ item, cause });
    for (let next = work.pop(); next !== undefined; next = work.pop()) {
      const { item } = next;
      if ('open' in item) {
        if (item.over) continue;
        item.over = true;
        this.#effects.again(item.job, next.cause);
        continue;
      }
      if (item.fate !== undefined) continue;
      item.fate = 'failed';
      if (item.number !== undefined) {
        this.#effects.failed(item.number);
        this.#told.push(item.number);
      }
      for (const dependent of item.dependents ?? []) {
        work.push({ item: dependent, cause: 'dependency' });
      }
      item.dependents = undefined;
      // What is written or settled is executed again by whoever learns its fate.
      if (item.stage === 'written' || item.stage === 'settled') continue;
      this.#settle(item);
      this.#effects.again(item.job, next.cause);
    }
  }

  #settle(execution: Execution): void {
    assert(execution.stage !== 'settled', 'an execution is settled once');
    execution.stage = 'settled';
    execution.reads = noReads;
    execution.job.onItsWay = false;
    this.#live--;
  }

  /** False when it is not known as written there. */
  #forget(group: Group, address: Address): boolean {
    const groups = this.#written.get(address) ?? [];
    const at = groups.indexOf(group);
    if (at < 0) return false;
    groups.splice(at, 1);
    if (groups.length === 0) this.#written.delete(address);
    return true;
  }

  #free(group: Group): void {
    if (group.done) return;
    group.done = true;
    this.#writing--;
  }

  #bulk({ record, position }: AppliedRecord): void {
    const { sets, txId } = record;
    if (!sets.some(({ bulkUpdates }) => bulkUpdates.length > 0)) return;
    const update = recordedUpdateOf(sets, { position, txId, timestampMs: 0 }, 0);
    if (update !== undefined) this.#effects.bulk(update);
  }

  #foreign(applied: AppliedRecord): void {
    const { record, position } = applied;
    this.#bulk(applied);
    for (const { namespace, writes } of record.sets) {
      for (const { key, value } of writes) {
        this.#effects.foreign(stateKey(namespace, key), value, position);
      }
    }
  }
}

function addDependent(source: Execution, dependent: Execution | PendingRefusal): void {
  if (source.dependents === undefined) source.dependents = [dependent];
  else if (source.dependents.at(-1) !== dependent) source.dependents.push(dependent);
}

/** The group's execution whose record this is, if it is one. */
function nextMember(group: Group, applied: AppliedRecord, least: number): Execution | undefined {
  const index = indexOf(applied.position);
  const execution = index < least ? undefined : group.executions[index];
  return execution?.stage === 'written' && sameTransaction(execution, applied)
    ? execution
    : undefined;
}

function sameTransaction(execution: Execution | undefined, applied: AppliedRecord): boolean {
  if (execution === undefined) return false;
  const { txId } = execution.job.item;
  // Mostly they are the very same bytes: replay holds those of batches that it trusts.
  return txId === applied.record.txId || Buffer.compare(txId, applied.record.txId) === 0;
}
