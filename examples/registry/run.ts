import { DevelopmentCa } from '../../src/node/index.ts';
import {
  admit,
  get,
  outcomeOf,
  removeEntity,
  rows,
  type StoredEntity,
} from '../../src/replication/federation/index.ts';
import { attempt, TlsNode } from './tls-node.ts';

const [bookId, mapId, lateId] = [
  'uddi:books.example:node',
  'uddi:maps.example:node',
  'uddi:late.example:node',
];

/**
 * Two registries, the case in which one inserts what the other deletes at the same time, and a third
 * that joins later. `say` hears every step; the result tells how it ended.
 */
export async function runRegistryExample(
  say: (text: string) => void,
): Promise<{ readonly sameEverywhere: boolean; readonly loserTold: string }> {
  const ca = await DevelopmentCa.create('Registries', Date.now());
  const nodes: TlsNode[] = [];
  for (const id of [bookId, mapId, lateId]) {
    const { certificate, privateKey } = await ca.issue(id, { role: 'peer' });
    nodes.push(new TlsNode(id, { certificate, privateKey, authority: ca.root.certificate }));
  }
  const [books, maps, late] = nodes as [TlsNode, TlsNode, TlsNode];
  try {
    for (const node of nodes) {
      const port = await node.listen();
      for (const other of nodes) other.addPeer(node.id, port);
    }
    books.found();
    books.run(admit(mapId));
    maps.join([bookId]);
    await maps.pullFrom(bookId);
    say('Two registries, books and maps, keep one directory.');

    const y = 'uddi:maps.example:y';
    say(`maps publishes Y: ${attempt(() => maps.publish(business(y), 'bob'))}`);
    await books.pullFrom(mapId);

    say('At the same time books inserts X, which refers to Y, and maps deletes Y:');
    const x = 'uddi:books.example:x';
    const insert = books.publish(referring(x, `${y}-http`), 'ann');
    say(`  books: X is ${insert.state}; it takes effect when all members have acknowledged it`);
    say(`  maps: ${attempt(() => maps.run(removeEntity(y, 'bob', 9)))}`);
    await maps.pullFrom(bookId);
    await books.pullFrom(mapId);
    await maps.pullFrom(bookId);
    const outcome = books.run(outcomeOf(insert.usn));
    const loserTold = `${outcome?.state}, by ${outcome?.by ?? 'nobody'}`;
    say(`  books is told that X ${loserTold}`);

    const z = 'uddi:maps.example:z';
    maps.publish(business(z), 'bob');
    await books.pullFrom(mapId);
    say('The other order: X2 refers to Z, and maps hears of it before it deletes Z:');
    const second = books.publish(referring('uddi:books.example:x2', `${z}-http`), 'ann');
    await maps.pullFrom(bookId);
    say(`  maps deletes Z: ${attempt(() => maps.run(removeEntity(z, 'bob', 10)))}`);
    await books.pullFrom(mapId);
    say(`  books: X2 is ${books.run(outcomeOf(second.usn))?.state}`);
    await maps.pullFrom(bookId);

    books.run(admit(lateId));
    late.join([bookId]);
    say(`A third registry joins: ${await late.pullFrom(bookId, 3)} records`);
    for (const node of nodes) {
      for (const other of nodes) if (other !== node) await node.pullFrom(other.id);
    }
    for (const node of nodes) await node.pullFrom(bookId === node.id ? mapId : bookId);
    const keys = [x, y, z, 'uddi:books.example:x2'];
    const views = nodes.map((node) =>
      keys.map((key) => {
        const stored = node.run(get<StoredEntity>(rows.entity(key)));
        return `${key} ${stored === undefined || stored.deletedMs !== undefined ? 'no' : 'yes'}`;
      }),
    );
    for (const [at, view] of views.entries()) say(`${nodes[at]?.id}: ${view.join(', ')}`);
    const sameEverywhere = new Set(views.map((view) => view.join())).size === 1;
    say(sameEverywhere ? 'All three say the same, and nothing dangles.' : 'They differ!');
    return { sameEverywhere, loserTold };
  } finally {
    for (const node of nodes) node.close();
  }
}

function business(key: string): string {
  return `<businessEntity businessKey="${key}"><name>Y</name><businessServices><businessService serviceKey="${key}-service"><bindingTemplates><bindingTemplate bindingKey="${key}-http"><accessPoint>http://maps.example/</accessPoint></bindingTemplate></bindingTemplates></businessService></businessServices></businessEntity>`;
}

function referring(key: string, binding: string): string {
  return `<businessEntity businessKey="${key}"><name>X</name><businessServices><businessService serviceKey="${key}-service"><bindingTemplates><bindingTemplate bindingKey="${key}-http"><hostingRedirector bindingKey="${binding}"/></bindingTemplate></bindingTemplates></businessService></businessServices></businessEntity>`;
}
