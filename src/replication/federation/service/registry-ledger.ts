import type {
  ChangeRecord,
  Compacted,
  CopyPage,
  Outcome,
  PullAnswer,
  Received,
  Row,
  Vector,
} from '../core/index.ts';
import type { Nested, PublicationAnswer, Scan, XmlElement } from '../uddi/index.ts';

/** Calls of the registry's contract as the node's operator; a client of the ledger is one. */
export interface ContractCalls {
  submit(functionName: string, args: readonly string[]): Promise<string>;
  evaluate(functionName: string, args: readonly string[]): Promise<string>;
}

const scanRows = 1_000;

/** The contract `registry` with types. */
export class RegistryLedger {
  readonly #calls: ContractCalls;
  /** Writes wait for one another here: see {@link RegistryLedger.undisturbed}. */
  #gate: Promise<unknown> = Promise.resolve();

  constructor(calls: ContractCalls) {
    this.#calls = calls;
  }

  /** Runs `work` while this service changes nothing. */
  undisturbed<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#gate.then(work);
    this.#gate = result.catch(() => undefined);
    return result;
  }

  async #submit<T>(functionName: string, ...args: readonly string[]): Promise<T> {
    await this.#gate;
    const text = await this.#calls.submit(functionName, args);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async #evaluate<T>(functionName: string, ...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.#calls.evaluate(functionName, args)) as T;
  }

  /** The node as the ledger has it; `null` before it was founded or joined. */
  self(): Promise<{
    readonly node: string;
    readonly member: boolean;
    readonly copying: boolean;
  } | null> {
    return this.#evaluate('self');
  }

  found(node: string): Promise<void> {
    return this.#submit('found', node);
  }

  join(node: string, known: readonly string[]): Promise<void> {
    return this.#submit('join', node, JSON.stringify(known));
  }

  publish(message: XmlElement, publisher: string): Promise<PublicationAnswer> {
    return this.#submit('publishFor', publisher, JSON.stringify(message));
  }

  inquire(message: XmlElement): Promise<XmlElement> {
    return this.#evaluate('inquire', JSON.stringify(message));
  }

  scan(message: XmlElement, publisher: string, nested: Nested, after?: string): Promise<Scan> {
    const texts = [JSON.stringify(message), publisher, JSON.stringify(nested)];
    return this.#evaluate('scan', ...texts, String(scanRows), after ?? '');
  }

  async outcome(usn: number): Promise<Outcome | undefined> {
    return (await this.#evaluate<Outcome | null>('outcome', String(usn))) ?? undefined;
  }

  offerTransfer(
    hash: string,
    offer: {
      readonly keys: readonly string[];
      readonly publisher: string;
      readonly expiresMs: number;
    },
  ): Promise<void> {
    return this.#submit('offerTransfer', hash, JSON.stringify(offer));
  }

  acceptTransfer(
    hash: string,
    keys: readonly string[],
    to: { readonly node: string; readonly publisher: string },
  ): Promise<void> {
    return this.#submit('acceptTransfer', hash, JSON.stringify(keys), JSON.stringify(to));
  }

  discardTransfer(
    publisher: string,
    what: { readonly hash: string } | { readonly keys: readonly string[] },
  ): Promise<void> {
    return this.#submit('discardTransfer', publisher, JSON.stringify(what));
  }

  highWaterMarks(): Promise<Vector> {
    return this.#evaluate('highWaterMarks');
  }

  /** What to pull with. */
  askingMarks(): Promise<Vector> {
    return this.#evaluate('askingMarks');
  }

  pull(marks: Vector, limit: number, upTo?: Vector): Promise<PullAnswer> {
    const most = upTo === undefined ? '' : JSON.stringify(upTo);
    return this.#evaluate('pull', JSON.stringify(marks), String(limit), most);
  }

  receive(
    records: readonly ChangeRecord[],
    from: string,
    certificates: Readonly<Record<string, string>>,
  ): Promise<Received> {
    const texts = [JSON.stringify(records), from, JSON.stringify(certificates)];
    return this.#submit('receive', ...texts);
  }

  async certificate(fingerprint: string): Promise<string | undefined> {
    return (await this.#evaluate<string | null>('certificate', fingerprint)) ?? undefined;
  }

  copyPage(limit: number, after?: string): Promise<CopyPage> {
    return this.#evaluate('copyPage', String(limit), after ?? '');
  }

  beginCopy(marks: Vector, limit: number): Promise<boolean> {
    return this.#submit('beginCopy', JSON.stringify(marks), String(limit));
  }

  writeCopy(rows: readonly Row[]): Promise<void> {
    return this.#submit('writeCopy', JSON.stringify(rows));
  }

  endCopy(): Promise<void> {
    return this.#submit('endCopy');
  }

  requestAcknowledgement(): Promise<void> {
    return this.#submit('requestAcknowledgement');
  }

  compact(graceMs: number, limit: number, from: number): Promise<Compacted> {
    return this.#submit('compact', String(graceMs), String(limit), String(from));
  }
}
