import { holderOf, refusal, type Step, type StoredEntity } from '../core/contract-core.ts';
import { isProjection, keyAttributes } from './draft.ts';
import { childOrder } from './shapes.ts';
import { childOf, element, type XmlElement } from './xml-element.ts';

/*
 * Services and bindings are parts of their business: one datum with one custodian. What changes a
 * part makes a new version of the business.
 */

/** Puts `child` in the place of the one with its name, or where the schema has it; or takes it away. */
export function withChild(
  parent: XmlElement,
  name: string,
  child: XmlElement | undefined,
): XmlElement {
  const order = childOrder(parent.name);
  const others = parent.children.filter((one) => one.name !== name);
  if (child === undefined) return { ...parent, children: others };
  const before = others.filter((one) => order.indexOf(one.name) < order.indexOf(name));
  return { ...parent, children: [...before, child, ...others.slice(before.length)] };
}

/** Members of a list that is a child, e.g. the services in `businessServices`. */
export function listOf(parent: XmlElement, list: string): readonly XmlElement[] {
  return childOf(parent, list)?.children ?? [];
}

function withList(parent: XmlElement, list: string, members: readonly XmlElement[]): XmlElement {
  const child = members.length === 0 ? undefined : element(list, { children: members });
  return withChild(parent, list, child);
}

/** Services of a business that are its own. */
export function ownServices(business: XmlElement): readonly XmlElement[] {
  const { businessKey } = business.attributes;
  return listOf(business, 'businessServices').filter((one) => !isProjection(one, businessKey));
}

/** Bindings of a service. */
export function bindingsOf(service: XmlElement): readonly XmlElement[] {
  return listOf(service, 'bindingTemplates');
}

/** The part of an entity with a key: itself, a service or a binding. */
export function partWithKey(content: XmlElement, key: string): XmlElement | undefined {
  const business = content.attributes.businessKey;
  const find = (one: XmlElement): XmlElement | undefined => {
    if (isProjection(one, business)) return undefined;
    if (one.attributes[keyAttributes[one.name] ?? ''] === key) return one;
    for (const child of one.children) {
      const found = find(child);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return find(content);
}

/** A business with this service in it, in the place of the one with its key or at the end. */
export function withService(business: XmlElement, service: XmlElement): XmlElement {
  const services = listOf(business, 'businessServices');
  return withList(business, 'businessServices', replaced(services, service, 'serviceKey'));
}

/** A business with this binding in the service with that key. */
export function withBinding(
  business: XmlElement,
  serviceKey: string,
  binding: XmlElement,
): XmlElement {
  const services = listOf(business, 'businessServices').map((service) =>
    service.attributes.serviceKey !== serviceKey
      ? service
      : withList(service, 'bindingTemplates', replaced(bindingsOf(service), binding, 'bindingKey')),
  );
  return withList(business, 'businessServices', services);
}

/** A business without the service or binding with a key. */
export function withoutPart(business: XmlElement, key: string): XmlElement {
  const services = listOf(business, 'businessServices')
    .filter(({ attributes }) => attributes.serviceKey !== key)
    .map((service) =>
      withList(
        service,
        'bindingTemplates',
        bindingsOf(service).filter(({ attributes }) => attributes.bindingKey !== key),
      ),
    );
  return withList(business, 'businessServices', services);
}

function replaced(
  members: readonly XmlElement[],
  one: XmlElement,
  keyName: string,
): readonly XmlElement[] {
  const key = one.attributes[keyName] ?? '';
  const at = key === '' ? -1 : members.findIndex(({ attributes }) => attributes[keyName] === key);
  return at < 0 ? [...members, one] : members.map((old, index) => (index === at ? one : old));
}

/**
 * The living entity that a key belongs to.
 *
 * @param name - what the key must be of, e.g. `businessService`.
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_invalidKeyPassed`)
 */
export function* entityWith(
  key: string,
  name: string,
): Step<{ readonly stored: StoredEntity; readonly part: XmlElement }> {
  const stored = yield* holderOf(key);
  const part =
    stored === undefined || stored.deletedMs !== undefined || stored.entity.kind === 'assertion'
      ? undefined
      : partWithKey(stored.entity.content as XmlElement, key);
  if (stored === undefined || part?.name !== name) {
    throw refusal('E_invalidKeyPassed', `${key} is no ${name}`, { key });
  }
  return { stored, part };
}

/** What is shown of an entity: hidden ones say so, and projected services are filled in. */
export function* shown(stored: StoredEntity, part: XmlElement): Step<XmlElement> {
  if (stored.entity.hidden) {
    return { ...part, attributes: { ...part.attributes, deleted: 'true' } };
  }
  if (part.name !== 'businessEntity') return part;
  const { businessKey } = part.attributes;
  const services: XmlElement[] = [];
  for (const service of listOf(part, 'businessServices')) {
    if (!isProjection(service, businessKey)) {
      services.push(service);
      continue;
    }
    const key = service.attributes.serviceKey ?? '';
    const holder = yield* holderOf(key);
    const found =
      holder === undefined ? undefined : partWithKey(holder.entity.content as XmlElement, key);
    services.push(found ?? service);
  }
  return withList(part, 'businessServices', services);
}

/** Reads entities by key, as they are shown. */
export function* details(keys: readonly string[], name: string, answer: string): Step<XmlElement> {
  const children: XmlElement[] = [];
  for (const key of keys) {
    const { stored, part } = yield* entityWith(key, name);
    children.push(yield* shown(stored, part));
  }
  return element(answer, { children });
}
