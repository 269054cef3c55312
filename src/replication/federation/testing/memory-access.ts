import { createHash } from 'node:crypto';
import { outcomeOf, refusal } from '../core/index.ts';
import {
  acceptTransfer,
  discardTransfer,
  element,
  inquiry,
  offerTransfer,
  publication,
  type RegistryAccess,
  scan,
} from '../uddi/index.ts';
import { childText } from '../uddi/xml-element.ts';
import type { TestNode } from './small-world.ts';

const scanRows = 7;

/**
 * UDDI's APIs of a registry in memory. A publisher's token is his name.
 *
 * @param peers - where transfer tokens of other nodes are shown.
 */
export function memoryAccess(node: TestNode, peers: readonly TestNode[] = []): RegistryAccess {
  let keys = 0;
  const hash = (token: string): string => createHash('sha256').update(token).digest('hex');
  return {
    publish: async (message, publisher) => {
      const newKey = (): string => node.key(`new${++keys}`);
      const nowMs = node.nowMs++;
      return node.store.run(publication(message, { publisher, nowMs, newKey }));
    },
    inquire: async (message) => node.store.run(inquiry(message)),
    scan: async (message, publisher, nested, after) =>
      node.store.run(scan(message, publisher, nested, scanRows, after)),
    settled: async (usn) => node.store.run(outcomeOf(usn)),
    tokens: {
      issue: async (user, password) => {
        if (password !== 'secret') throw refusal('E_unknownUser', 'wrong password');
        return user;
      },
      publisherOf: (token) => {
        if (token === '') throw refusal('E_authTokenRequired', 'no token');
        return token;
      },
      discard: () => undefined,
    },
    custody: {
      offer: async (publisher, keysOffered) => {
        const token = Buffer.from(`${node.id}-${keysOffered.join()}`).toString('base64');
        const offer = { keys: keysOffered, publisher, expiresMs: node.nowMs + 1_000 };
        node.store.run(offerTransfer(node.id, hash(token), offer, node.nowMs));
        return element('transferToken', {
          children: [
            element('nodeID', { text: node.id }),
            element('expirationTime', { text: new Date(offer.expiresMs).toISOString() }),
            element('opaqueToken', { text: token }),
          ],
        });
      },
      accept: async (publisher, token, wanted) => {
        const from = [node, ...peers].find(({ id }) => id === childText(token, 'nodeID'));
        if (from === undefined) throw refusal('E_transferNotAllowed', 'not known');
        const to = { node: node.id, publisher };
        const opaque = childText(token, 'opaqueToken') ?? '';
        from.store.run(acceptTransfer(hash(opaque), wanted, to, from.nowMs++));
        if (from !== node) node.pullFrom(from);
      },
      discard: async (publisher, token, wanted) => {
        const what = token === undefined ? { keys: wanted } : { hash: hash(token) };
        node.store.run(discardTransfer(publisher, what));
      },
    },
  };
}
