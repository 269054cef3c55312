import { type Draft, refusal } from '../core/contract-core.ts';
import { checkShape } from './shapes.ts';
import { childOf, element, type XmlElement } from './xml-element.ts';

/** tModels that UDDI itself defines need not be in the registry. */
export const canonicalPrefix = 'uddi:uddi.org:';

/** Where the key stands in an element that has one. */
export const keyAttributes: Readonly<Record<string, string>> = {
  businessEntity: 'businessKey',
  businessService: 'serviceKey',
  bindingTemplate: 'bindingKey',
  tModel: 'tModelKey',
};

/**
 * What a publisher sent, checked, with keys in lower case, and with new keys where there were none.
 *
 * @param newKey - a key that was never used, in the node's home prefix.
 * @throws {DaybookError} `REGISTRY_REFUSED` with UDDI's code.
 */
export function draftOf(sent: XmlElement, publisher: string, newKey: () => string): Draft {
  checkShape(sent);
  if (sent.name !== 'businessEntity' && sent.name !== 'tModel') {
    throw refusal('E_unsupported', `${sent.name} is saved with its business`);
  }
  const content = withKeys(sent, newKey, {});
  const key = content.attributes[keyAttributes[content.name] ?? ''] ?? '';
  return {
    key,
    kind: content.name === 'tModel' ? 'tModel' : 'business',
    publisher,
    content,
    ...linksOf(content),
  };
}

/** Inner keys and references of an entity's content. */
export function linksOf(content: XmlElement): { innerKeys: string[]; references: string[] } {
  const own = new Set<string>();
  const references = new Set<string>();
  const business = content.attributes.businessKey;
  const visit = (one: XmlElement): void => {
    const keyName = keyAttributes[one.name];
    for (const [name, value] of Object.entries(one.attributes)) {
      if (isProjection(one, business)) references.add(value);
      else if (name === keyName) own.add(value);
      else if (name.endsWith('Key')) references.add(value);
    }
    for (const child of one.children) visit(child);
  };
  visit(content);
  const top = content.attributes[keyAttributes[content.name] ?? ''];
  return {
    innerKeys: [...own].filter((key) => key !== top).sort(),
    references: [...references]
      .filter((key) => key !== '' && !own.has(key) && !key.startsWith(canonicalPrefix))
      .sort(),
  };
}

/** A service of another business that a business shows as if it were its own: a reference. */
export function isProjection(one: XmlElement, business: string | undefined): boolean {
  const { businessKey = '' } = one.attributes;
  return one.name === 'businessService' && businessKey !== '' && businessKey !== business;
}

function withKeys(
  one: XmlElement,
  newKey: () => string,
  parents: Readonly<Record<string, string>>,
): XmlElement {
  const attributes: Record<string, string> = {};
  for (const [name, value] of Object.entries(one.attributes)) {
    attributes[name] = name.endsWith('Key') ? value.trim().toLowerCase() : value;
  }
  const known = { ...parents };
  const keyName = keyAttributes[one.name];
  if (keyName !== undefined) {
    attributes[keyName] = attributes[keyName] || newKey();
    known[keyName] = attributes[keyName];
    for (const [child, parent] of [
      ['businessService', 'businessKey'],
      ['bindingTemplate', 'serviceKey'],
    ] as const) {
      const expected = parents[parent];
      if (one.name !== child || expected === undefined) continue;
      if ((attributes[parent] || expected) !== expected) {
        if (one.name !== 'businessService' || !one.attributes.serviceKey) {
          throw refusal('E_invalidProjection', `${one.name} names another ${parent}`);
        }
        // What it says is the other business's.
        return element(one.name, { attributes });
      }
      attributes[parent] = expected;
    }
  }
  const children = one.children.map((child) => withKeys(child, newKey, known));
  return element(one.name, { attributes, children, text: one.text.trim() });
}

/** The first name of an entity. */
export function nameOf(content: XmlElement): string {
  return childOf(content, 'name')?.text ?? '';
}
