import { isUddiKey, refusal, type UddiErrorCode } from '../core/contract-core.ts';
import type { XmlElement } from './xml-element.ts';

/*
 * The part of UDDI's schema that publications are checked against: which attributes and children an
 * element has, in which order, how often, and how long its text may be.
 *
 * @see UDDI 3.0.2, chapter 3 and uddi_v3.xsd.
 */

interface AttributeShape {
  readonly required?: true;
  readonly charactersMax?: number;
  readonly key?: true;
  readonly values?: readonly string[];
}

interface Shape {
  readonly attributes?: Readonly<Record<string, AttributeShape>>;
  /** In order; `*` any number, `+` at least one, `?` at most one, none: exactly one. */
  readonly children?: string;
  readonly text?: {
    readonly charactersMax: number;
    readonly uri?: true;
    readonly key?: true;
    readonly mayBeEmpty?: true;
    readonly values?: readonly string[];
  };
  /** Exactly one of these children. */
  readonly oneOf?: readonly string[];
}

const key: AttributeShape = { key: true, charactersMax: 255 };
const requiredKey: AttributeShape = { ...key, required: true };
const useType: AttributeShape = { charactersMax: 255 };
const lang: AttributeShape = { charactersMax: 35 };
const line = (charactersMax: number): Shape => ({
  text: { charactersMax },
  attributes: { useType },
});

const shapes: Readonly<Record<string, Shape>> = {
  businessEntity: {
    attributes: { businessKey: key },
    children:
      'discoveryURLs? name+ description* contacts? businessServices? identifierBag? categoryBag?',
  },
  businessServices: { children: 'businessService+' },
  businessService: {
    attributes: { serviceKey: key, businessKey: key },
    children: 'name* description* bindingTemplates? categoryBag?',
  },
  bindingTemplates: { children: 'bindingTemplate+' },
  bindingTemplate: {
    attributes: { bindingKey: key, serviceKey: key },
    children: 'description* accessPoint? hostingRedirector? tModelInstanceDetails? categoryBag?',
    oneOf: ['accessPoint', 'hostingRedirector'],
  },
  accessPoint: line(4096),
  hostingRedirector: { attributes: { bindingKey: requiredKey } },
  tModelInstanceDetails: { children: 'tModelInstanceInfo+' },
  tModelInstanceInfo: {
    attributes: { tModelKey: requiredKey },
    children: 'description* instanceDetails?',
  },
  instanceDetails: { children: 'description* overviewDoc* instanceParms?' },
  instanceParms: { text: { charactersMax: 8192 } },
  tModel: {
    attributes: { tModelKey: key, deleted: { values: ['true', 'false', '0', '1'] } },
    children: 'name description* overviewDoc* identifierBag? categoryBag?',
  },
  overviewDoc: { children: 'description* overviewURL?' },
  overviewURL: { text: { charactersMax: 4096, uri: true }, attributes: { useType } },
  discoveryURLs: { children: 'discoveryURL+' },
  discoveryURL: { text: { charactersMax: 4096, uri: true }, attributes: { useType } },
  name: { text: { charactersMax: 255 }, attributes: { lang } },
  description: { text: { charactersMax: 255 }, attributes: { lang } },
  contacts: { children: 'contact+' },
  contact: {
    attributes: { useType },
    children: 'description* personName+ phone* email* address*',
  },
  personName: { text: { charactersMax: 255 }, attributes: { lang } },
  phone: line(50),
  email: line(255),
  address: {
    attributes: { lang, useType, sortCode: { charactersMax: 10 }, tModelKey: key },
    children: 'addressLine+',
  },
  addressLine: {
    text: { charactersMax: 80 },
    attributes: { keyName: { charactersMax: 255 }, keyValue: { charactersMax: 255 } },
  },
  identifierBag: { children: 'keyedReference+' },
  categoryBag: { children: 'keyedReference* keyedReferenceGroup*' },
  keyedReferenceGroup: { attributes: { tModelKey: requiredKey }, children: 'keyedReference*' },
  ...messageShapes(),
  keyedReference: {
    attributes: {
      tModelKey: requiredKey,
      keyName: { charactersMax: 255 },
      keyValue: { required: true, charactersMax: 255 },
    },
  },
};

function messageShapes(): Readonly<Record<string, Shape>> {
  const keyText: Shape = { text: { charactersMax: 255, key: true } };
  const rows = { maxRows: {}, listHead: {} };
  const auth = 'authInfo?';
  const find = `${auth} findQualifiers?`;
  const takes = (children: string): Shape => ({ children: `${auth} ${children}` });
  return {
    authInfo: { text: { charactersMax: 4096, mayBeEmpty: true } },
    businessKey: keyText,
    serviceKey: keyText,
    bindingKey: keyText,
    tModelKey: keyText,
    entityKey: keyText,
    fromKey: keyText,
    toKey: keyText,
    key: keyText,
    nodeID: keyText,
    keyBag: { children: 'key+' },
    transferToken: { children: 'nodeID expirationTime opaqueToken' },
    expirationTime: { text: { charactersMax: 64 } },
    opaqueToken: { text: { charactersMax: 4096 } },
    publisherAssertion: { children: 'fromKey toKey keyedReference' },
    findQualifiers: { children: 'findQualifier+' },
    findQualifier: { text: { charactersMax: 255 } },
    tModelBag: { children: 'tModelKey+' },
    completionStatus: {
      text: {
        charactersMax: 32,
        values: [
          'status:complete',
          'status:fromKey_incomplete',
          'status:toKey_incomplete',
          'status:both_incomplete',
        ],
      },
    },
    save_business: takes('businessEntity+'),
    save_service: takes('businessService+'),
    save_binding: takes('bindingTemplate+'),
    save_tModel: takes('tModel+'),
    delete_business: takes('businessKey+'),
    delete_service: takes('serviceKey+'),
    delete_binding: takes('bindingKey+'),
    delete_tModel: takes('tModelKey+'),
    add_publisherAssertions: takes('publisherAssertion+'),
    delete_publisherAssertions: takes('publisherAssertion+'),
    set_publisherAssertions: takes('publisherAssertion*'),
    get_publisherAssertions: takes(''),
    get_assertionStatusReport: takes('completionStatus?'),
    get_registeredInfo: {
      children: auth,
      attributes: { infoSelection: { required: true, values: ['all', 'hidden', 'visible'] } },
    },
    get_businessDetail: takes('businessKey+'),
    get_serviceDetail: takes('serviceKey+'),
    get_bindingDetail: takes('bindingKey+'),
    get_tModelDetail: takes('tModelKey+'),
    get_operationalInfo: takes('entityKey+'),
    get_authToken: {
      attributes: {
        userID: { required: true, charactersMax: 255 },
        cred: { required: true, charactersMax: 1024 },
      },
    },
    discard_authToken: { children: 'authInfo' },
    find_business: {
      attributes: rows,
      children: `${find} name* identifierBag? categoryBag? tModelBag? find_tModel? discoveryURLs? find_relatedBusinesses?`,
    },
    find_service: {
      attributes: { ...rows, businessKey: key },
      children: `${find} name* categoryBag? tModelBag? find_tModel?`,
    },
    find_binding: {
      attributes: { ...rows, serviceKey: key },
      children: `${find} tModelBag? find_tModel? categoryBag?`,
    },
    find_tModel: { attributes: rows, children: `${find} name? identifierBag? categoryBag?` },
    find_relatedBusinesses: {
      attributes: rows,
      children: `${find} businessKey? fromKey? toKey? keyedReference?`,
      oneOf: ['businessKey', 'fromKey', 'toKey'],
    },
    get_transferToken: takes('keyBag'),
    transfer_entities: takes('transferToken keyBag'),
    discard_transferToken: {
      children: `${auth} transferToken? keyBag?`,
      oneOf: ['transferToken', 'keyBag'],
    },
  };
}

/** Whether an element is one of the messages of UDDI's APIs. */
export function isMessage(name: string): boolean {
  return /^(save|delete|find|get|add|set|discard|transfer)_/.test(name) && name in shapes;
}

/** Names of an element's children, in the order of the schema. */
export function childOrder(name: string): readonly string[] {
  return (shapes[name]?.children ?? '')
    .split(' ')
    .filter((part) => part !== '')
    .map((part) => part.replace(/[*+?]$/, ''));
}

/**
 * Checks an entity as a publisher sends it, or a whole message.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` with UDDI's code: `E_fatalError` for what the schema has
 *   no place for, `E_nameTooLong`, `E_invalidValue`, `E_invalidKeyPassed`, `E_invalidURLPassed`.
 */
export function checkShape(one: XmlElement): void {
  const shape = Object.hasOwn(shapes, one.name) ? shapes[one.name] : undefined;
  if (one.name === 'Signature') throw refusal('E_unsupported', 'signatures in entities');
  if (shape === undefined) throw refusal('E_fatalError', `no element ${one.name} is known`);
  for (const text of [one.text, ...Object.values(one.attributes)]) checkCharacters(one, text);
  checkAttributes(one, shape);
  checkText(one, shape);
  checkChildren(one, shape);
  for (const child of one.children) checkShape(child);
}

/** What XML cannot carry would arrive at other nodes as something else. */
function checkCharacters(one: XmlElement, text: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about them
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/u.test(text)) {
    fail('E_fatalError', one, 'has a character that XML cannot carry');
  }
}

function checkAttributes(one: XmlElement, { attributes = {} }: Shape): void {
  for (const [name, value] of Object.entries(one.attributes)) {
    const allowed = Object.hasOwn(attributes, name) ? attributes[name] : undefined;
    if (allowed === undefined) fail('E_fatalError', one, `has no attribute ${name}`);
    else if (value.trim().length > (allowed.charactersMax ?? 255)) {
      fail(
        allowed.key === true ? 'E_invalidKeyPassed' : 'E_nameTooLong',
        one,
        `${name} is too long`,
      );
    } else if (allowed.key === true && value !== '' && !isUddiKey(value.trim().toLowerCase())) {
      fail('E_invalidKeyPassed', one, `${name} is not a key`);
    } else if (allowed.key === true && allowed.required === true && value === '') {
      fail('E_invalidKeyPassed', one, `${name} is empty`);
    } else if (allowed.values?.includes(value) === false) {
      fail('E_invalidValue', one, `${name} cannot be ${value}`);
    }
  }
  for (const [name, { required }] of Object.entries(attributes)) {
    if (required === true && one.attributes[name] === undefined) {
      fail('E_fatalError', one, `needs ${name}`);
    }
  }
}

function checkText(one: XmlElement, { text }: Shape): void {
  const value = one.text.trim();
  if (text === undefined) {
    if (value !== '') fail('E_fatalError', one, 'has no text');
    return;
  }
  if (value === '' && text.mayBeEmpty !== true) fail('E_invalidValue', one, 'is empty');
  if (text.key === true && !isUddiKey(value.toLowerCase())) {
    fail('E_invalidKeyPassed', one, 'is not a key');
  }
  if (text.values?.includes(value) === false) fail('E_invalidValue', one, `cannot be ${value}`);
  if (value.length > text.charactersMax) {
    fail('E_nameTooLong', one, `is longer than ${text.charactersMax} characters`);
  }
  if (text.uri === true && !/^[^\s<>"{}|\\^`]+$/.test(value)) {
    fail('E_invalidURLPassed', one, 'is not a URL');
  }
}

function checkChildren(one: XmlElement, { children = '', oneOf }: Shape): void {
  let at = 0;
  for (const part of children.split(' ').filter((name) => name !== '')) {
    const name = part.replace(/[*+?]$/, '');
    const many = part.endsWith('*') || part.endsWith('+');
    const needed = part.endsWith('+') || part === name;
    let count = 0;
    while (one.children[at]?.name === name && (many || count === 0)) {
      at++;
      count++;
    }
    if (needed && count === 0) fail('E_fatalError', one, `needs ${name}`);
  }
  const extra = one.children[at];
  if (extra !== undefined) fail('E_fatalError', one, `has no place for ${extra.name} there`);
  if (oneOf !== undefined) {
    const present = one.children.filter(({ name }) => oneOf.includes(name)).length;
    if (present !== 1) fail('E_fatalError', one, `needs one of ${oneOf.join(', ')}`);
  }
  if (/Bag$|^overviewDoc$|^instanceDetails$/.test(one.name) && one.children.length === 0) {
    fail('E_fatalError', one, 'is empty');
  }
}

function fail(code: UddiErrorCode, one: XmlElement, message: string): never {
  throw refusal(code, `${one.name} ${message}`);
}
