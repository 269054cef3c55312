import { type Context, Contract } from 'fabric-contract-api';
import {
  admit,
  beginCopy,
  type ChangeRecord,
  compact,
  copyPage,
  correct,
  type Draft,
  endCopy,
  found,
  get,
  hideEntity,
  highWaterMarks,
  join,
  outcomeOf,
  progress,
  pull,
  put,
  type Row,
  receive,
  refusal,
  removeEntity,
  requestAcknowledgement,
  resign,
  rows,
  rowsUnder,
  type Step,
  save,
  transfer,
  type Vector,
  withdraw,
  writeCopy,
} from '../../../../src/replication/federation/core/contract-core.ts';
import { runStep } from './run-step.ts';

const operatorRow = 'operator';

/**
 * A registry node: what a publisher changes and its change record with its USN are one commit, so
 * neither is ever without the other. Arguments and results are JSON. Publishers are known by their
 * certificates; whoever founds the node or lets it join is its operator, and alone exchanges
 * records with other nodes.
 */
export class Registry extends Contract {
  constructor() {
    super('Registry');
  }

  async found(ctx: Context, node: string): Promise<void> {
    await this.#enter(ctx, found(node));
  }

  async join(ctx: Context, node: string, known: string): Promise<void> {
    await this.#enter(ctx, join(node, JSON.parse(known) as string[]));
  }

  async #enter(ctx: Context, step: Step<void>): Promise<void> {
    await runStep(ctx, step);
    await runStep(ctx, put(operatorRow, ctx.clientIdentity.getID()));
  }

  /** Publisher: inserts or updates; the draft's publisher is the caller. */
  async save(ctx: Context, draft: string): Promise<string> {
    const wanted = JSON.parse(draft) as Draft;
    const publisher = ctx.clientIdentity.getID();
    return json(await runStep(ctx, save({ ...wanted, publisher }, nowMs(ctx))));
  }

  async remove(ctx: Context, key: string): Promise<string> {
    return json(await runStep(ctx, removeEntity(key, ctx.clientIdentity.getID(), nowMs(ctx))));
  }

  async hide(ctx: Context, key: string): Promise<string> {
    return json(await runStep(ctx, hideEntity(key, ctx.clientIdentity.getID(), nowMs(ctx))));
  }

  async transfer(ctx: Context, key: string, node: string, publisher: string): Promise<string> {
    const to = { node, publisher };
    return json(await runStep(ctx, transfer(key, ctx.clientIdentity.getID(), to, nowMs(ctx))));
  }

  async outcome(ctx: Context, usn: string): Promise<string> {
    return json(await runStep(ctx, outcomeOf(Number(usn))));
  }

  async entity(ctx: Context, key: string): Promise<string> {
    return json(await runStep(ctx, get(rows.entity(key))));
  }

  /** At most `limit` entities, tombstones too, after a key. */
  async entities(ctx: Context, limit: string, after: string): Promise<string> {
    const from = after === '' ? undefined : rows.entity(after);
    const found = await runStep(ctx, rowsUnder('entity|', Number(limit), from));
    return json(found.map(({ value }) => value));
  }

  async admit(ctx: Context, node: string): Promise<void> {
    await this.#operate(ctx, admit(node));
  }

  async resign(ctx: Context, heir: string): Promise<void> {
    await this.#operate(ctx, resign(heir));
  }

  async withdraw(ctx: Context, usn: string): Promise<void> {
    await this.#operate(ctx, withdraw(Number(usn)));
  }

  async correct(ctx: Context, usn: string): Promise<string> {
    return json(await this.#operate(ctx, correct(Number(usn))));
  }

  async requestAcknowledgement(ctx: Context): Promise<string> {
    return json(await this.#operate(ctx, requestAcknowledgement()));
  }

  async compact(ctx: Context, graceMs: string, limit: string, from: string): Promise<string> {
    const step = compact(nowMs(ctx), Number(graceMs), Number(limit), Number(from));
    return json(await this.#operate(ctx, step));
  }

  async receive(ctx: Context, records: string): Promise<string> {
    const page = JSON.parse(records) as ChangeRecord[];
    return json(await this.#operate(ctx, receive(page, nowMs(ctx))));
  }

  async highWaterMarks(ctx: Context): Promise<string> {
    return json(await runStep(ctx, highWaterMarks()));
  }

  async progress(ctx: Context): Promise<string> {
    return json(await runStep(ctx, progress()));
  }

  async pull(ctx: Context, marks: string, limit: string): Promise<string> {
    return json(await runStep(ctx, pull(JSON.parse(marks) as Vector, Number(limit))));
  }

  async copyPage(ctx: Context, limit: string, after: string): Promise<string> {
    return json(await runStep(ctx, copyPage(Number(limit), after === '' ? undefined : after)));
  }

  async beginCopy(ctx: Context, marks: string, limit: string): Promise<string> {
    const step = beginCopy(JSON.parse(marks) as Vector, Number(limit));
    return json(await this.#operate(ctx, step));
  }

  async writeCopy(ctx: Context, page: string): Promise<void> {
    await this.#operate(ctx, writeCopy(JSON.parse(page) as Row[]));
  }

  async endCopy(ctx: Context): Promise<void> {
    await this.#operate(ctx, endCopy(nowMs(ctx)));
  }

  async #operate<T>(ctx: Context, step: Step<T>): Promise<T> {
    const operator = await runStep(ctx, get<string>(operatorRow));
    if (operator !== ctx.clientIdentity.getID()) {
      throw refusal('E_userMismatch', 'only the operator of this node may do this');
    }
    return await runStep(ctx, step);
  }
}

function nowMs(ctx: Context): number {
  return ctx.stub.getDateTimestamp().getTime();
}

function json(value: unknown): string {
  return JSON.stringify(value ?? null);
}
