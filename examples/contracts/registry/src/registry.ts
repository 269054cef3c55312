import { type Context, Contract } from 'fabric-contract-api';
import {
  admit,
  askingMarks,
  beginCopy,
  type ChangeRecord,
  compact,
  copyPage,
  correct,
  endCopy,
  expel,
  expulsions,
  found,
  get,
  highWaterMarks,
  join,
  type Outcome,
  outcomeOf,
  progress,
  pull,
  put,
  type Quarantined,
  type Row,
  receive,
  refusal,
  requestAcknowledgement,
  resign,
  rows,
  rowsUnder,
  type Step,
  selfId,
  type Vector,
  withdraw,
  writeCopy,
} from '../../../../src/replication/federation/core/contract-core.ts';
import {
  acceptTransfer,
  discardTransfer,
  offerTransfer,
} from '../../../../src/replication/federation/uddi/custody.ts';
import { type Nested, scan } from '../../../../src/replication/federation/uddi/find.ts';
import { inquiry } from '../../../../src/replication/federation/uddi/inquiry.ts';
import { publication } from '../../../../src/replication/federation/uddi/publication.ts';
import type { XmlElement } from '../../../../src/replication/federation/uddi/xml-element.ts';
import { runStep } from './run-step.ts';

const operatorRow = 'operator';

/** Characters of records in one answer to a pull. */
const answerCharactersMax = 1_500_000;
/**
 * Characters of rows in one page of a copy: with signatures, and three bytes to each, it must fit into
 * an argument of a call (`argumentBytesMax`).
 */
const copyCharactersMax = 500_000;

/**
 * A registry node: what a publisher changes and its change record with its USN are one commit, so
 * neither is ever without the other. Arguments and results are JSON; messages are elements of UDDI's
 * schema. A publisher who calls by himself is known by his certificate. Whoever founds the node or
 * lets it join is its operator, who exchanges records with other nodes, and publishes for those that
 * the node's service knows.
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

  /** The node's id, and whether it is a member. */
  async self(ctx: Context): Promise<string> {
    const self = await runStep(ctx, get<{ node: string }>(rows.self));
    if (self === undefined) return json(null);
    const member = await runStep(ctx, get<{ heir?: string }>(rows.member(self.node)));
    const copying = (await runStep(ctx, get(rows.copying))) !== undefined;
    return json({
      node: self.node,
      member: member !== undefined && member.heir === undefined,
      copying,
    });
  }

  /** A message of the publication API; the publisher is the caller. */
  async publish(ctx: Context, message: string): Promise<string> {
    return await this.#publish(ctx, ctx.clientIdentity.getID(), message);
  }

  /** The same for a publisher that the node's service knows. */
  async publishFor(ctx: Context, publisher: string, message: string): Promise<string> {
    await this.#checkOperator(ctx);
    return await this.#publish(ctx, publisher, message);
  }

  async #publish(ctx: Context, publisher: string, message: string): Promise<string> {
    const self = await runStep(ctx, selfId());
    const home = self.slice(0, self.lastIndexOf(':') + 1);
    let count = 0;
    const call = {
      publisher,
      nowMs: nowMs(ctx),
      // Never used before: transaction ids are not.
      newKey: () => `${home}${ctx.stub.getTxID().slice(0, 32)}-${++count}`,
    };
    return json(await runStep(ctx, publication(JSON.parse(message) as XmlElement, call)));
  }

  /** A message of the inquiry API that names what it is about. */
  async inquire(ctx: Context, message: string): Promise<string> {
    return json(await runStep(ctx, inquiry(JSON.parse(message) as XmlElement)));
  }

  /** A part of a find: looks at `limit` entities after a row. */
  async scan(
    ctx: Context,
    message: string,
    publisher: string,
    nested: string,
    limit: string,
    after: string,
  ): Promise<string> {
    const step = scan(
      JSON.parse(message) as XmlElement,
      publisher,
      JSON.parse(nested) as Nested,
      Number(limit),
      after === '' ? undefined : after,
    );
    return json(await runStep(ctx, step));
  }

  async offerTransfer(ctx: Context, hash: string, offer: string): Promise<void> {
    const self = await runStep(ctx, selfId());
    const wanted = JSON.parse(offer) as Parameters<typeof offerTransfer>[2];
    await this.#operate(ctx, offerTransfer(self, hash, wanted, nowMs(ctx)));
  }

  async acceptTransfer(ctx: Context, hash: string, keys: string, to: string): Promise<void> {
    const receiver = JSON.parse(to) as { node: string; publisher: string };
    const step = acceptTransfer(hash, JSON.parse(keys) as string[], receiver, nowMs(ctx));
    await this.#operate(ctx, step);
  }

  async discardTransfer(ctx: Context, publisher: string, what: string): Promise<void> {
    const meant = JSON.parse(what) as Parameters<typeof discardTransfer>[1];
    await this.#operate(ctx, discardTransfer(publisher, meant));
  }

  async outcome(ctx: Context, usn: string): Promise<string> {
    return json(await runStep(ctx, outcomeOf(Number(usn))));
  }

  /** The newest outcomes that are not plain success, and what is in quarantine. */
  async troubles(ctx: Context): Promise<string> {
    const outcomes = (await runStep(ctx, rowsUnder('outcome|', 10_000)))
      .map(({ value }) => value as Outcome)
      .filter(({ state }) => state !== 'committed');
    const quarantined = await runStep(ctx, rowsUnder('quarantine|', 1_000));
    return json({
      outcomes: outcomes.slice(-100),
      quarantined: quarantined.map(({ value }) => {
        const { record, reason, missing } = value as Quarantined;
        return { origin: record.origin, usn: record.usn, reason, missing };
      }),
    });
  }

  async entity(ctx: Context, key: string): Promise<string> {
    return json(await runStep(ctx, get(rows.entity(key))));
  }

  async admit(ctx: Context, node: string): Promise<void> {
    await this.#operate(ctx, admit(node));
  }

  async resign(ctx: Context, heir: string): Promise<void> {
    await this.#operate(ctx, resign(heir));
  }

  async expel(ctx: Context, node: string, heir: string, vouched: string): Promise<string> {
    return json(await this.#operate(ctx, expel(node, heir, vouched === 'true', nowMs(ctx))));
  }

  async expulsions(ctx: Context): Promise<string> {
    return json(await runStep(ctx, expulsions()));
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

  /** Takes records that the member `from` sent; certificates are kept for those who ask later. */
  async receive(
    ctx: Context,
    records: string,
    from: string,
    certificates: string,
  ): Promise<string> {
    const page = JSON.parse(records) as ChangeRecord[];
    const received = await this.#operate(
      ctx,
      receive(page, nowMs(ctx), from === '' ? undefined : from),
    );
    const pems = JSON.parse(certificates === '' ? '{}' : certificates) as Record<string, string>;
    for (const [fingerprint, pem] of Object.entries(pems)) {
      await runStep(ctx, put(rows.certificate(fingerprint), pem));
    }
    return json(received);
  }

  async certificate(ctx: Context, fingerprint: string): Promise<string> {
    return json(await runStep(ctx, get(rows.certificate(fingerprint))));
  }

  async highWaterMarks(ctx: Context): Promise<string> {
    return json(await runStep(ctx, highWaterMarks()));
  }

  async askingMarks(ctx: Context): Promise<string> {
    return json(await runStep(ctx, askingMarks()));
  }

  async progress(ctx: Context): Promise<string> {
    return json(await runStep(ctx, progress()));
  }

  async pull(ctx: Context, marks: string, limit: string, upTo: string): Promise<string> {
    const most = upTo === '' ? undefined : (JSON.parse(upTo) as Vector);
    const step = pull(JSON.parse(marks) as Vector, Number(limit), most);
    const answer = await runStep(ctx, step);
    if (answer.type !== 'records') return json(answer);
    const records = fitting(answer.records, answerCharactersMax);
    if (records.length === answer.records.length) return json(answer);
    return json({ ...answer, records, more: true });
  }

  async copyPage(ctx: Context, limit: string, after: string): Promise<string> {
    const step = copyPage(Number(limit), after === '' ? undefined : after);
    const page = await runStep(ctx, step);
    const found = fitting(page.rows, copyCharactersMax);
    const next = found.length === page.rows.length ? page.next : found.at(-1)?.key;
    return json({ ...page, rows: found, next });
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
    await this.#checkOperator(ctx);
    return await runStep(ctx, step);
  }

  async #checkOperator(ctx: Context): Promise<void> {
    const operator = await runStep(ctx, get<string>(operatorRow));
    if (operator !== ctx.clientIdentity.getID()) {
      throw refusal('E_userMismatch', 'only the operator of this node may do this');
    }
  }
}

/** The first of them that have so many characters as JSON, but always one. */
function fitting<T>(all: readonly T[], charactersMax: number): readonly T[] {
  let characters = 0;
  const end = all.findIndex((one) => {
    characters += JSON.stringify(one).length;
    return characters > charactersMax;
  });
  return end < 0 ? all : all.slice(0, Math.max(1, end));
}

function nowMs(ctx: Context): number {
  return ctx.stub.getDateTimestamp().getTime();
}

function json(value: unknown): string {
  return JSON.stringify(value ?? null);
}
