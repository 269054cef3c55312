import {
  type ChangeId,
  type ChangeRecord,
  type Entity,
  isUddiKey,
  type Payload,
  readAssertionKey,
  refusal,
  type Vector,
} from '../core/index.ts';
import { assertionDraft } from './assertion-draft.ts';
import { keyAttributes, linksOf } from './draft.ts';
import { childOf, childText, element, writeXml, type XmlElement } from './xml-element.ts';

/*
 * Change records in UDDI's replication schema. What it has no element for, members of the federation
 * and their leaving, travels inside `changeRecordNull`, whose content the schema leaves open: other
 * implementations take it for a number without effect.
 */

/** Namespace of what UDDI has no element for. */
export const federationNamespace = 'urn:daybook:federation';

const namespaces = `xmlns="urn:uddi-org:repl_v3" xmlns:u="urn:uddi-org:api_v3" xmlns:c="urn:uddi-org:custody_v3" xmlns:d="${federationNamespace}"`;

/** Names that belong to the replication namespace, whatever their parent. */
const replicationNames =
  /^(changeRecord|changeRecords|changeID|nodeID|originatingUSN|acknowledgedChange|failedChangeID|changeRecord[A-Z]\w*|get_changeRecords|notify_changeRecordsAvailable|get_highWaterMarks|highWaterMark|highWaterMarks|changesAlreadySeen|changesAvailable|responseLimitCount|responseLimitVector|requestingNode|notifyingNode|do_ping|operatorNodeID|fromBusinessCheck|toBusinessCheck|transfer_custody)$/;
const custodyNames =
  /^(transferToken|keyBag|key|transferOperationalInfo|expirationTime|opaqueToken|get_transferToken|transfer_entities|discard_transferToken)$/;
const federationNames =
  /^(member|expel|frozen|retired|full_copy|get_fullCopy|rows|vector|mark|report)$/;

function prefix(name: string, parent: string | undefined): string {
  if (parent === 'operationalInfo' || parent === 'transferOperationalInfo') return 'u:';
  if (parent === 'transferToken' && name === 'nodeID') return 'u:';
  if (name === 'modified') return '';
  if (federationNames.test(name)) return 'd:';
  if (custodyNames.test(name)) return 'c:';
  return replicationNames.test(name) ? '' : 'u:';
}

/** A replication message as text, with its namespaces. */
export function replicationXml(message: XmlElement): string {
  return writeXml(message, prefix).replace(/^<([\w:]+)/, `<$1 ${namespaces}`);
}

/** A message of the publication and inquiry APIs as text. */
export function apiXml(message: XmlElement): string {
  return writeXml(message, () => '').replace(/^<([\w:]+)/, '<$1 xmlns="urn:uddi-org:api_v3"');
}

/** A message of the custody API as text. */
export function custodyXml(message: XmlElement): string {
  const text = writeXml(message, (name) => (name === 'nodeID' ? 'u:' : ''));
  const spaces = 'xmlns="urn:uddi-org:custody_v3" xmlns:u="urn:uddi-org:api_v3"';
  return text.replace(/^<([\w:]+)/, `<$1 ${spaces}`);
}

/** A vector of marks; UDDI has no place for an empty one with children, so it may be empty. */
export function vectorElement(name: string, vector: Vector): XmlElement {
  return element(name, {
    children: Object.entries(vector).map(([origin, usn]) =>
      idElement('highWaterMark', { origin, usn }),
    ),
  });
}

/** @throws {DaybookError} `REGISTRY_REFUSED` (`E_fatalError`) */
export function vectorOf(parent: XmlElement | undefined): Vector {
  const vector: Record<string, number> = {};
  for (const mark of parent?.children ?? []) {
    const { origin, usn } = idOf(mark);
    vector[origin] = usn;
  }
  return vector;
}

function idElement(name: string, { origin, usn }: ChangeId): XmlElement {
  return element(name, {
    children: [
      element('nodeID', { text: origin }),
      element('originatingUSN', { text: String(usn) }),
    ],
  });
}

function idOf(parent: XmlElement | undefined): ChangeId {
  const origin = parent === undefined ? '' : (childText(parent, 'nodeID') ?? '');
  const usn = Number((parent === undefined ? undefined : childText(parent, 'originatingUSN')) ?? 0);
  if (!isUddiKey(origin) || !Number.isSafeInteger(usn) || usn < 0) {
    throw refusal('E_fatalError', 'not a change id');
  }
  return { origin, usn };
}

/** One record as `changeRecord`. */
export function recordElement(record: ChangeRecord): XmlElement {
  return element('changeRecord', {
    attributes: { acknowledgementRequested: String(record.acknowledgementRequested) },
    children: [idElement('changeID', record), payloadElement(record.payload)],
  });
}

function payloadElement(payload: Payload): XmlElement {
  switch (payload.type) {
    case 'null':
      return element('changeRecordNull');
    case 'newData':
      return newDataElement(payload.entity);
    case 'conditional':
      return element('changeRecordNewDataConditional', {
        children: [newDataElement(payload.entity)],
      });
    case 'delete':
      if (payload.kind === 'assertion') {
        const { key, content, modifiedMs } = payload;
        return assertionElement('changeRecordDeleteAssertion', key, content, modifiedMs);
      }
      return element('changeRecordDelete', {
        children: [element('businessKey', { text: payload.key }), time(payload.modifiedMs)],
      });
    case 'hide':
      return element('changeRecordHide', {
        children: [element('tModelKey', { text: payload.key }), time(payload.modifiedMs)],
      });
    case 'acknowledge':
      return element('changeRecordAcknowledgement', {
        children: [idElement('acknowledgedChange', payload.of)],
      });
    case 'conditionFailed':
      return element('changeRecordConditionFailed', {
        children: [idElement('failedChangeID', payload.of)],
      });
    case 'correction':
      return element('changeRecordCorrection', {
        children: [
          recordElement({
            ...payload.of,
            acknowledgementRequested: false,
            payload: payload.payload,
          }),
        ],
      });
    case 'member':
    case 'expel':
    case 'frozen':
    case 'retired':
      return element('changeRecordNull', { children: [memberElement(payload)] });
  }
}

function assertionElement(
  name: string,
  key: string,
  content: unknown,
  modifiedMs: number,
): XmlElement {
  const side = readAssertionKey(key)?.side;
  return element(name, {
    children: [
      content as XmlElement,
      element('fromBusinessCheck', { text: String(side === 'from') }),
      element('toBusinessCheck', { text: String(side === 'to') }),
      time(modifiedMs),
    ],
  });
}

function time(ms: number, name = 'modified'): XmlElement {
  return element(name, { text: new Date(ms).toISOString() });
}

function newDataElement(entity: Entity): XmlElement {
  if (entity.kind === 'assertion') {
    const name = 'changeRecordPublisherAssertion';
    return assertionElement(name, entity.key, entity.content, entity.modifiedMs);
  }
  const content = entity.content as XmlElement;
  const attributes = entity.hidden
    ? { ...content.attributes, deleted: 'true' }
    : content.attributes;
  return element('changeRecordNewData', {
    children: [
      { ...content, attributes },
      element('operationalInfo', {
        attributes: { entityKey: entity.key },
        children: [
          time(entity.createdMs, 'created'),
          time(entity.modifiedMs),
          element('nodeID', { text: entity.owner }),
          element('authorizedName', { text: entity.publisher }),
        ],
      }),
    ],
  });
}

type Membership = Extract<Payload, { type: 'member' | 'expel' | 'frozen' | 'retired' }>;

function memberElement(payload: Membership): XmlElement {
  if (payload.type === 'frozen') {
    const { origin, usn } = payload.of;
    const attributes = { origin, usn: String(usn), mark: String(payload.mark) };
    return element('frozen', { attributes });
  }
  const attributes: Record<string, string> = { node: payload.node };
  if (payload.heir !== undefined) attributes.heir = payload.heir;
  if (payload.type === 'expel') attributes.vouched = String(payload.vouched);
  if (payload.type === 'retired') attributes.final = String(payload.final);
  return element(payload.type, { attributes });
}

/**
 * Reads a `changeRecord`.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_fatalError`, `E_unsupported`)
 */
export function recordOf(one: XmlElement): ChangeRecord {
  const payload = one.children.find(({ name }) => name !== 'changeID');
  if (one.name !== 'changeRecord' || payload === undefined) {
    throw refusal('E_fatalError', 'not a change record');
  }
  const id = idOf(childOf(one, 'changeID'));
  return {
    ...id,
    acknowledgementRequested: /^(true|1)$/.test(one.attributes.acknowledgementRequested ?? ''),
    payload: payloadOf(payload, id.origin),
  };
}

function payloadOf(one: XmlElement, origin: string): Payload {
  const [first] = one.children;
  switch (one.name) {
    case 'changeRecordNull':
      return first === undefined ? { type: 'null' } : membershipOf(first);
    case 'changeRecordPublisherAssertion':
      return { type: 'newData', entity: assertionOf(one, origin) };
    case 'changeRecordDeleteAssertion': {
      const { key, content, modifiedMs } = assertionOf(one, origin);
      return { type: 'delete', key, kind: 'assertion', modifiedMs, content };
    }
    case 'changeRecordNewData':
      return newDataOf(one);
    case 'changeRecordNewDataConditional': {
      const inner = first === undefined ? undefined : newDataOf(first);
      if (inner?.type !== 'newData') break;
      return { type: 'conditional', entity: inner.entity };
    }
    case 'changeRecordDelete': {
      const key = childText(one, 'businessKey');
      if (key === undefined) throw refusal('E_unsupported', 'only businesses are deleted whole');
      return { type: 'delete', key, kind: 'business', modifiedMs: timeOf(one, 'modified') };
    }
    case 'changeRecordHide':
      return {
        type: 'hide',
        key: childText(one, 'tModelKey') ?? '',
        modifiedMs: timeOf(one, 'modified'),
      };
    case 'changeRecordAcknowledgement':
      return { type: 'acknowledge', of: idOf(first) };
    case 'changeRecordConditionFailed':
      return { type: 'conditionFailed', of: idOf(first), reason: 'not told' };
    case 'changeRecordCorrection': {
      if (first === undefined) break;
      const { origin, usn, payload } = recordOf(first);
      return { type: 'correction', of: { origin, usn }, payload };
    }
  }
  throw refusal('E_unsupported', `${one.name} is not understood`);
}

function timeOf(parent: XmlElement, name: string): number {
  const ms = Date.parse(childText(parent, name) ?? '');
  if (Number.isNaN(ms)) throw refusal('E_fatalError', `${name} is not a time`);
  return ms;
}

function newDataOf(one: XmlElement): Payload {
  const sent = one.children.find(({ name }) => name === 'businessEntity' || name === 'tModel');
  const info = childOf(one, 'operationalInfo');
  if (sent === undefined || info === undefined) {
    throw refusal('E_unsupported', 'not a businessEntity or tModel with operationalInfo');
  }
  const key = sent.attributes[keyAttributes[sent.name] ?? ''] ?? '';
  const { deleted, ...attributes } = sent.attributes;
  const content = { ...sent, attributes };
  return {
    type: 'newData',
    entity: {
      key,
      kind: sent.name === 'tModel' ? 'tModel' : 'business',
      owner: childText(info, 'nodeID') ?? '',
      publisher: childText(info, 'authorizedName') ?? '',
      ...linksOf(content),
      hidden: deleted === 'true' || deleted === '1',
      createdMs: timeOf(info, 'created'),
      modifiedMs: timeOf(info, 'modified'),
      content,
    },
  };
}

function membershipOf({ name, attributes }: XmlElement): Payload {
  const node = (key: string): string => {
    const value = attributes[key] ?? '';
    if (!isUddiKey(value)) throw refusal('E_fatalError', `${name} names no ${key}`);
    return value;
  };
  const count = (key: string): number => {
    const value = Number(attributes[key]);
    if (!Number.isSafeInteger(value) || value < 0) throw refusal('E_fatalError', `no ${key}`);
    return value;
  };
  switch (name) {
    case 'member':
      return {
        type: 'member',
        node: node('node'),
        ...(attributes.heir === undefined ? {} : { heir: node('heir') }),
      };
    case 'expel': {
      const vouched = attributes.vouched === 'true';
      return { type: 'expel', node: node('node'), heir: node('heir'), vouched };
    }
    case 'frozen': {
      const of = { origin: node('origin'), usn: count('usn') };
      return { type: 'frozen', of, mark: count('mark') };
    }
    case 'retired':
      return { type: 'retired', node: node('node'), heir: node('heir'), final: count('final') };
  }
  return { type: 'null' };
}

/** An assertion's side, as an entity of the node that sends it. */
function assertionOf(one: XmlElement, origin: string): Entity {
  const sent = childOf(one, 'publisherAssertion');
  const checks = ['fromBusinessCheck', 'toBusinessCheck'].map((name) =>
    /^(true|1)$/.test(childText(one, name) ?? ''),
  );
  if (sent === undefined) throw refusal('E_fatalError', 'no publisherAssertion');
  if (checks[0] === checks[1]) {
    throw refusal('E_unsupported', 'a record is about one side of an assertion');
  }
  const ms = timeOf(one, 'modified');
  return {
    ...assertionDraft(sent, checks[0] === true ? 'from' : 'to'),
    owner: origin,
    publisher: '',
    hidden: false,
    createdMs: ms,
    modifiedMs: ms,
  };
}
