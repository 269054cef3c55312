import {
  type ChangeRecord,
  type PullAnswer,
  refusal,
  uddiCodeOf,
  uddiErrors,
  type Vector,
} from '../core/index.ts';
import {
  apiXml,
  recordElement,
  recordOf,
  replicationXml,
  vectorElement,
  vectorOf,
} from './wire.ts';
import { childOf, childText, element, parseXml, type XmlElement } from './xml.ts';

/** What the service needs of its registry, wherever that lies. */
export interface ReplicatedRegistry {
  readonly node: string;
  highWaterMarks(): Promise<Vector>;
  pull(marks: Vector, limit: number, upTo?: Vector): Promise<PullAnswer>;
  /** Hears that a peer has more; it will be pulled from. */
  notified(peer: string, available: Vector): void;
}

/** Records in one answer, whatever a peer asks for. */
export const recordsPerAnswerMax = 1_000;

const soapNamespace = 'http://schemas.xmlsoap.org/soap/envelope/';

/** Puts a message's text in a SOAP 1.1 envelope. */
export function envelope(body: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="${soapNamespace}"><soap:Body>${body}</soap:Body></soap:Envelope>`;
}

/**
 * The message in an envelope.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_fatalError`)
 */
export function messageIn(text: string): XmlElement | undefined {
  const outer = parseXml(text);
  const body = outer.name === 'Envelope' ? childOf(outer, 'Body') : undefined;
  if (body === undefined) throw refusal('E_fatalError', 'not a SOAP envelope');
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
    return { status: 200, body: envelope(answer === undefined ? '' : replicationXml(answer)) };
  } catch (error) {
    return { status: 500, body: faultOf(error) };
  }
}

async function replicationAnswer(
  registry: ReplicatedRegistry,
  peer: string,
  message: XmlElement,
): Promise<XmlElement | undefined> {
  const claims = (name: string): void => {
    const node = childText(message, name);
    if (node !== peer) throw refusal('E_userMismatch', `${node} is not ${peer}`);
  };
  switch (message.name) {
    case 'do_ping':
      return element('operatorNodeID', { text: registry.node });
    case 'get_highWaterMarks':
      return vectorElement('highWaterMarks', await registry.highWaterMarks());
    case 'notify_changeRecordsAvailable':
      claims('notifyingNode');
      registry.notified(peer, vectorOf(childOf(message, 'changesAvailable')));
      return undefined;
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
        throw refusal('E_requestDenied', 'journals do not reach back so far: take a full copy');
      }
      return element('changeRecords', { children: answer.records.map(recordElement) });
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

/**
 * The records in an answer to a pull.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with the peer's code when it is a fault.
 */
export function recordsInAnswer(text: string): readonly ChangeRecord[] {
  const message = messageIn(text);
  if (message?.name === 'Fault') {
    throw refusal(uddiCodeOf(new Error(childText(message, 'faultstring'))), 'the peer refuses');
  }
  if (message?.name !== 'changeRecords') throw refusal('E_fatalError', 'not an answer to a pull');
  return message.children.map(recordOf);
}
