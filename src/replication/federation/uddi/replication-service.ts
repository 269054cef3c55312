import {
  type ChangeRecord,
  changeText,
  type PullAnswer,
  type Row,
  refusal,
  uddiCodeOf,
  uddiErrors,
  type Vector,
} from '../core/index.ts';
import {
  apiXml,
  federationNamespace,
  recordElement,
  recordOf,
  replicationXml,
  vectorElement,
  vectorOf,
} from './wire.ts';
import { parseXml } from './xml.ts';
import { childOf, childText, element, writeXml, type XmlElement } from './xml-element.ts';

/** What the replication API needs of its registry, wherever that lies. */
export interface ReplicatedRegistry {
  readonly node: string;
  highWaterMarks(): Promise<Vector>;
  /** Own records are signed; `certificates` has those of all signatures, by fingerprint. */
  pull(
    marks: Vector,
    limit: number,
    upTo?: Vector,
  ): Promise<PullAnswer & { readonly certificates?: Readonly<Record<string, string>> }>;
  /** Hears that a peer has more; it will be pulled from. */
  notified(peer: string, available: Vector): void;
  /** A page of a full copy; without `copy` a new copy is made, or one that was made lately taken. */
  fullCopy?(copy: string | undefined, page: number): Promise<FullCopyPage>;
  /** Hands over entities to a publisher of a peer. */
  transferCustody?(
    token: string,
    keys: readonly string[],
    to: { readonly node: string; readonly publisher: string },
  ): Promise<void>;
}

/** A page of a full copy on the wire. */
export interface FullCopyPage {
  readonly copy: string;
  readonly pages: number;
  readonly marks: Vector;
  readonly rows: readonly Row[];
}

/** Records in one answer, whatever a peer asks for. */
export const recordsPerAnswerMax = 500;

const soapNamespace = 'http://schemas.xmlsoap.org/soap/envelope/';

/** Puts a message's text in a SOAP 1.1 envelope. */
export function envelope(body: string, header = ''): string {
  const head = header === '' ? '' : `<soap:Header>${header}</soap:Header>`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="${soapNamespace}">${head}<soap:Body>${body}</soap:Body></soap:Envelope>`;
}

/**
 * The message in an envelope.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_fatalError`)
 */
export function messageIn(text: string, charactersMax?: number): XmlElement | undefined {
  const outer = parseXml(text, charactersMax);
  const body = outer.name === 'Envelope' ? childOf(outer, 'Body') : undefined;
  if (body === undefined) throw refusal('E_fatalError', 'not a SOAP envelope');
  if (body.children.length > 1) throw refusal('E_fatalError', 'more than one message');
  return body.children[0];
}

/** A SOAP fault with UDDI's disposition report. */
export function faultOf(error: unknown): string {
  const code = uddiCodeOf(error);
  const text = error instanceof Error && code !== 'E_fatalError' ? error.message : code;
  const report = element('dispositionReport', {
    children: [
      element('result', {
        attributes: { errno: String(uddiErrors[code]) },
        children: [element('errInfo', { attributes: { errCode: code }, text })],
      }),
    ],
  });
  return envelope(
    `<soap:Fault><faultcode>soap:Client</faultcode><faultstring>${code}</faultstring><detail>${apiXml(report)}</detail></soap:Fault>`,
  );
}

/**
 * Answers one SOAP message of the replication API.
 *
 * @param peer - the member at the other end, as its certificate proves: what names another node in
 *   a message is refused.
 * @returns the answer's body and HTTP status; it never throws.
 */
export async function answerReplication(
  registry: ReplicatedRegistry,
  peer: string,
  text: string,
): Promise<{ readonly status: number; readonly body: string }> {
  try {
    const message = messageIn(text);
    if (message === undefined) throw refusal('E_fatalError', 'no message');
    const answer = await replicationAnswer(registry, peer, message);
    const body = answer.message === undefined ? '' : replicationXml(answer.message);
    return { status: 200, body: envelope(body, answer.header) };
  } catch (error) {
    return { status: 500, body: faultOf(error) };
  }
}

async function replicationAnswer(
  registry: ReplicatedRegistry,
  peer: string,
  message: XmlElement,
): Promise<{ readonly message?: XmlElement; readonly header?: string }> {
  const claims = (name: string): void => {
    const node = childText(message, name);
    if (node !== peer) throw refusal('E_userMismatch', `${node} is not ${peer}`);
  };
  switch (message.name) {
    case 'do_ping':
      return { message: element('operatorNodeID', { text: registry.node }) };
    case 'get_highWaterMarks':
      return { message: vectorElement('highWaterMarks', await registry.highWaterMarks()) };
    case 'notify_changeRecordsAvailable':
      claims('notifyingNode');
      registry.notified(peer, vectorOf(childOf(message, 'changesAvailable')));
      return {};
    case 'get_changeRecords': {
      claims('requestingNode');
      const marks = vectorOf(childOf(message, 'changesAlreadySeen'));
      const wanted = Number(childText(message, 'responseLimitCount') ?? recordsPerAnswerMax);
      const upTo = childOf(message, 'responseLimitVector');
      if (!Number.isSafeInteger(wanted) || wanted < 1) {
        throw refusal('E_invalidValue', 'responseLimitCount is a number from 1 on');
      }
      const limit = Math.min(wanted, recordsPerAnswerMax);
      const answer = await registry.pull(
        marks,
        limit,
        upTo === undefined ? undefined : vectorOf(upTo),
      );
      if (answer.type === 'copy-needed') {
        throw refusal('E_requestDenied', copyNeeded);
      }
      return {
        message: element('changeRecords', { children: answer.records.map(recordElement) }),
        header: notesXml(answer.records, answer.certificates ?? {}),
      };
    }
    case 'get_fullCopy': {
      const number = Number(message.attributes.page ?? 0);
      if (registry.fullCopy === undefined || !Number.isSafeInteger(number) || number < 0) {
        throw refusal('E_unsupported', 'no such page of a full copy');
      }
      const page = await registry.fullCopy(message.attributes.copy, number);
      const attributes = { copy: page.copy, pages: String(page.pages) };
      const rows = element('rows', { text: JSON.stringify(page.rows) });
      const children = [vectorElement('vector', page.marks), rows];
      return { message: element('full_copy', { attributes, children }) };
    }
    case 'transfer_custody': {
      if (registry.transferCustody === undefined) throw refusal('E_unsupported', 'custody');
      const to = childOf(message, 'transferOperationalInfo');
      const node = to === undefined ? '' : (childText(to, 'nodeID') ?? '');
      const publisher = to === undefined ? '' : (childText(to, 'authorizedName') ?? '');
      if (node !== peer) throw refusal('E_userMismatch', `${node} is not ${peer}`);
      const token = childOf(message, 'transferToken');
      const opaque = token === undefined ? '' : (childText(token, 'opaqueToken') ?? '');
      const keys = (childOf(message, 'keyBag')?.children ?? []).map(({ text }) =>
        text.trim().toLowerCase(),
      );
      await registry.transferCustody(opaque, keys, { node, publisher });
      return {};
    }
    default:
      throw refusal('E_unsupported', `${message.name} is not understood`);
  }
}

/** The text of a pull. */
export function pullRequest(node: string, marks: Vector, limit: number): string {
  return envelope(
    replicationXml(
      element('get_changeRecords', {
        children: [
          element('requestingNode', { text: node }),
          vectorElement('changesAlreadySeen', marks),
          element('responseLimitCount', { text: String(limit) }),
        ],
      }),
    ),
  );
}

/** The text of a notification. */
export function notification(node: string, available: Vector): string {
  return envelope(
    replicationXml(
      element('notify_changeRecordsAvailable', {
        children: [
          element('notifyingNode', { text: node }),
          vectorElement('changesAvailable', available),
        ],
      }),
    ),
  );
}

/** The text of a request for a page of a full copy. */
export function fullCopyRequest(copy: string | undefined, page: number): string {
  const attributes = { ...(copy === undefined ? {} : { copy }), page: String(page) };
  return envelope(replicationXml(element('get_fullCopy', { attributes })));
}

/** The text of a request to hand over entities to a publisher of the sender. */
export function custodyRequest(
  token: XmlElement,
  keys: readonly string[],
  to: { readonly node: string; readonly publisher: string },
): string {
  return envelope(
    replicationXml(
      element('transfer_custody', {
        children: [
          token,
          element('keyBag', { children: keys.map((key) => element('key', { text: key })) }),
          element('transferOperationalInfo', {
            children: [
              element('authorizedName', { text: to.publisher }),
              element('nodeID', { text: to.node }),
            ],
          }),
        ],
      }),
    ),
  );
}

const copyNeeded = 'journals do not reach back so far: take a full copy';

/** Signatures and what UDDI's records have no place for, beside the records in the header. */
function notesXml(
  records: readonly ChangeRecord[],
  certificates: Readonly<Record<string, string>>,
): string {
  const notes = records.flatMap(({ origin, usn, signature, payload }) => {
    const attributes: Record<string, string> = { origin, usn: String(usn) };
    if (signature !== undefined) Object.assign(attributes, signature);
    if (payload.type === 'conditionFailed') attributes.reason = payload.reason;
    return Object.keys(attributes).length === 2 ? [] : [element('note', { attributes })];
  });
  if (notes.length === 0) return '';
  const pems = Object.entries(certificates).map(([fingerprint, pem]) =>
    element('certificate', { attributes: { fingerprint }, text: pem }),
  );
  const all = element('notes', { children: [...pems, ...notes] });
  return writeXml(all, () => '').replace('<notes', `<notes xmlns="${federationNamespace}"`);
}

/** What a peer answered. */
export type PeerAnswer =
  | {
      readonly type: 'records';
      readonly records: readonly ChangeRecord[];
      /** By fingerprint, as the peer sent them. */
      readonly certificates: Readonly<Record<string, string>>;
    }
  | { readonly type: 'copy-needed' };

/** Characters in one answer of a peer. */
export const answerCharactersMax = 16 * 1024 * 1024;

/**
 * Reads an answer to a pull, with signatures and reasons.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with the peer's code when it is a fault.
 */
export function pullAnswerIn(text: string): PeerAnswer {
  const outer = parseXml(text, answerCharactersMax);
  const message = childOf(outer, 'Body')?.children[0];
  if (message?.name === 'Fault' && text.includes(copyNeeded)) return { type: 'copy-needed' };
  const body = answerIn(message, 'changeRecords');
  const notes = new Map<string, Readonly<Record<string, string>>>();
  const certificates: Record<string, string> = {};
  const header = childOf(outer, 'Header');
  for (const one of (header === undefined ? undefined : childOf(header, 'notes'))?.children ?? []) {
    const { attributes } = one;
    if (one.name === 'certificate') certificates[attributes.fingerprint ?? ''] = one.text;
    else notes.set(`${attributes.origin}#${attributes.usn}`, attributes);
  }
  const records = body.children.map((one) => {
    const record = recordOf(one);
    const note = notes.get(changeText(record));
    return note === undefined ? record : withNote(record, note);
  });
  return { type: 'records', records, certificates };
}

function withNote(record: ChangeRecord, note: Readonly<Record<string, string>>): ChangeRecord {
  const { digest, certificate, value, reason } = note;
  const payload =
    record.payload.type === 'conditionFailed' && reason !== undefined
      ? { ...record.payload, reason }
      : record.payload;
  if (digest === undefined || certificate === undefined || value === undefined) {
    return { ...record, payload };
  }
  return { ...record, payload, signature: { digest, certificate, value } };
}

/** Reads a page of a full copy. */
export function fullCopyIn(text: string): FullCopyPage {
  const message = answerIn(messageIn(text, answerCharactersMax), 'full_copy');
  const rows = JSON.parse(childOf(message, 'rows')?.text ?? '[]') as readonly Row[];
  return {
    copy: message.attributes.copy ?? '',
    pages: Number(message.attributes.pages),
    marks: vectorOf(childOf(message, 'vector')),
    rows,
  };
}

/** Sees to it that an answer without content is no fault. */
export function checkEmptyAnswer(text: string): void {
  const message = messageIn(text);
  if (message !== undefined) answerIn(message, '');
}

function answerIn(message: XmlElement | undefined, name: string): XmlElement {
  if (message?.name === 'Fault') {
    const report = childOf(message, 'detail')?.children[0];
    const info = report?.children[0]?.children[0];
    const code = uddiCodeOf(new Error(childText(message, 'faultstring')));
    throw refusal(code, `the peer refuses: ${info?.text ?? 'it does not say why'}`);
  }
  if (message?.name !== name) throw refusal('E_fatalError', `not an answer: ${message?.name}`);
  return message;
}

/**
 * The records in an answer to a pull.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with the peer's code when it is a fault.
 */
export function recordsInAnswer(text: string): readonly ChangeRecord[] {
  const answer = pullAnswerIn(text);
  if (answer.type === 'records') return answer.records;
  throw refusal('E_requestDenied', copyNeeded);
}
