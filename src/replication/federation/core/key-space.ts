import type { Member, StoredEntity } from './rows.ts';
import { rows } from './rows.ts';
import { get, type Step } from './step.ts';

/*
 * The key space is a tree of prefixes. The prefix `uddi:example.org:sales:` belongs to whoever has
 * the tModel `uddi:example.org:sales:keygenerator`, one level each: deeper levels need generators of
 * their own. So a prefix is delegated by creating its generator and transferring it. A node's home
 * prefix, that of its node id, is its own without a generator.
 */

const keySyntax = /^uddi:[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)*$/;
const generatorSuffix = ':keygenerator';

/** Keys and node ids: lower case (UDDI folds them), `uddi:` and segments, at most 255 characters. */
export function isUddiKey(key: string): boolean {
  return key.length <= 255 && keySyntax.test(key);
}

/** True for the key of a tModel that owns a prefix. */
export function isGenerator(key: string): boolean {
  return key.endsWith(generatorSuffix);
}

/** The prefix in which a key lies, with its colon; of a generator: the one above its own. */
export function prefixOf(key: string): string {
  const inner = isGenerator(key) ? key.slice(0, -generatorSuffix.length) : key;
  return inner.slice(0, inner.lastIndexOf(':') + 1);
}

/** A generator right under `uddi:`: nobody's to give, the first claim has it. */
export function isTopLevelClaim(key: string): boolean {
  return isGenerator(key) && prefixOf(key) === 'uddi:';
}

/** The prefix that a node has from its id. */
export function homePrefix(node: string): string {
  return prefixOf(node);
}

/** Who stands in for a node: itself, or the heir of one that left. */
export function* successorOf(node: string): Step<string> {
  let current = node;
  // An heir is a member when it inherits, so the chain cannot run in a circle.
  for (;;) {
    const member = yield* get<Member>(rows.member(current));
    if (member?.heir === undefined) return current;
    current = member.heir;
  }
}

/** Who may make keys in a prefix: the node, and the publisher when it hangs on a generator. */
export function* ownerOfPrefix(
  prefix: string,
  homes: ReadonlyMap<string, string>,
): Step<{ readonly node: string; readonly publisher?: string } | undefined> {
  const home = homes.get(prefix);
  if (home !== undefined) return { node: yield* successorOf(home) };
  const stored = yield* get<StoredEntity>(rows.entity(`${prefix}keygenerator`));
  if (stored === undefined) return undefined;
  return {
    node: yield* successorOf(stored.entity.owner),
    publisher: stored.entity.publisher,
  };
}
