import {
  type ChangeId,
  type ChangeRecord,
  type Entity,
  isUddiKey,
  type Payload,
  prefixOf,
  refusal,
  type Vector,
} from '../core/index.ts';
import { keyAttributes, linksOf } from './draft.ts';
import { childOf, childText, element, writeXml, type XmlElement } from './xml.ts';

/*
 * Change records in UDDI's replication schema. Two things it has no element for travel as data that
 * other implementations can keep: membership as a tModel under a reserved key, and the reason of a
 * failed condition not at all.
 */

const membershipKey = 'nodemembership';
const membershipCategory = 'uddi:uddi.org:categorization:general_keywords';

const namespaces = 'xmlns="urn:uddi-org:repl_v3" xmlns:u="urn:uddi-org:api_v3"';

/** Names that belong to the replication namespace, whatever their parent. */
const replicationNames =
  /^(changeRecord|changeRecords|changeID|nodeID|originatingUSN|acknowledgedChange|failedChangeID|changeRecord[A-Z]\w*|get_changeRecords|notify_changeRecordsAvailable|get_highWaterMarks|highWaterMark|highWaterMarks|changesAlreadySeen|changesAvailable|responseLimitCount|responseLimitVector|requestingNode|notifyingNode|do_ping|operatorNodeID)$/;

function prefix(name: string, parent: string | undefined): string {
  if (parent === 'operationalInfo') return 'u:';
  if (name === 'modified') return '';
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
        throw refusal('E_unsupported', 'assertions do not travel as XML');
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
      return memberElement(payload);
  }
}

function time(ms: number, name = 'modified'): XmlElement {
  return element(name, { text: new Date(ms).toISOString() });
}

function newDataElement(entity: Entity): XmlElement {
  if (entity.kind === 'assertion') {
    throw refusal('E_unsupported', 'assertions do not travel as XML');
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

function memberElement(payload: Extract<Payload, { type: 'member' }>): XmlElement {
  const key = prefixOf(payload.node) + membershipKey;
  const value = payload.heir === undefined ? 'member' : payload.heir;
  const content = element('tModel', {
    attributes: { tModelKey: key },
    children: [
      element('name', { text: payload.node }),
      element('categoryBag', {
        children: [
          element('keyedReference', {
            attributes: { tModelKey: membershipCategory, keyName: 'membership', keyValue: value },
          }),
        ],
      }),
    ],
  });
  const info = element('operationalInfo', { attributes: { entityKey: key } });
  return element('changeRecordNewData', { children: [content, info] });
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
  return {
    ...idOf(childOf(one, 'changeID')),
    acknowledgementRequested: /^(true|1)$/.test(one.attributes.acknowledgementRequested ?? ''),
    payload: payloadOf(payload),
  };
}

function payloadOf(one: XmlElement): Payload {
  const [first] = one.children;
  switch (one.name) {
    case 'changeRecordNull':
      return { type: 'null' };
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
  if (key.endsWith(`:${membershipKey}`)) return memberOf(sent);
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

function memberOf(sent: XmlElement): Payload {
  const node = childText(sent, 'name') ?? '';
  const bag = childOf(sent, 'categoryBag');
  const value = bag === undefined ? 'member' : bag.children[0]?.attributes.keyValue;
  if (!isUddiKey(node) || value === undefined) throw refusal('E_fatalError', 'not a membership');
  return value === 'member' ? { type: 'member', node } : { type: 'member', node, heir: value };
}
