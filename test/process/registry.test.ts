import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { outcomeIn } from '../../examples/registry/administration.ts';
import { RegistryProcess } from './registry-process.ts';

/*
 * Registry nodes as their operators run them: processes that are killed while they replicate, a node
 * that comes after journals were compacted, one that is lost, and one that is not who it says.
 */

let directory: string;
let all: RegistryProcess[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-registries-'));
  all = [];
});
afterEach(() => {
  for (const one of all) one.kill();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

async function registry(
  name: string,
  joins?: readonly RegistryProcess[],
): Promise<RegistryProcess> {
  const one = await RegistryProcess.init(name, directory, joins);
  all.push(one);
  return one;
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await check())) {
    if (performance.now() - started > 40_000) {
      throw new Error(`${what}: ${all.map(({ node, said }) => `${node}: ${said}`).join('\n')}`);
    }
    await sleep(100);
  }
}

test('killed while it replicates, a node goes on; others come later by a copy, or are expelled', async () => {
  const books = await registry('books');
  const maps = await registry('maps', [books]);
  const late = await registry('late', [books]);
  for (const one of all) for (const other of all) if (one !== other) await one.know(other);
  // What maps says comes to late through books only, and is taken for its signatures.
  await late.know(maps, { heardOf: true });
  await Promise.all([books.up(), maps.up()]);
  await books.order('admit', maps.node);
  await until('maps joins', async () => (await maps.save(maps.key('first'), 'n')) === 'done');

  // Killed while records come in.
  let saved = 0;
  for (let kill = 1; kill <= 2; kill++) {
    const more = Promise.all(
      Array.from({ length: 60 }, () => books.save(books.key(`k${saved++}`), `name ${kill}`)),
    );
    await sleep(150 * kill);
    maps.kill();
    expect(new Set(await more)).toEqual(new Set(['done']));
    await maps.up();
  }
  // What maps wrote before it was killed may come to books after that.
  for (const one of [maps, books]) {
    await until(`${one.node} has everything`, async () => {
      return Object.keys(await one.content()).length === saved + 1;
    });
  }
  expect(await maps.content()).toEqual(await books.content());
  const status = await maps.order('status');
  expect(status).toMatchObject({ member: true, quarantined: [] });

  // What all have is dropped, so who comes now must take a copy.
  await books.order('compact');
  await until('maps acknowledges', async () => {
    const { dropped } = (await books.order('compact')) as { dropped: number };
    return dropped > saved;
  });
  maps.kill();
  expect(await books.save(books.key('meanwhile'), 'n')).toBe('done');
  await books.order('admit', late.node);
  await late.up();
  await until('late has everything', async () => {
    return Object.keys(await late.content()).length === saved + 2;
  });
  expect(late.said).toContain('takes a full copy');
  // The copy has the journal with its signatures, so late passes on what it never pulled.
  books.kill();
  await maps.up();
  await until(
    'maps hears it from late',
    async () => books.key('meanwhile') in (await maps.content()),
  );
  expect(maps.said).not.toContain('takes a full copy');
  await books.up();
  await until('late publishes', async () => (await late.save(late.key('mine'), 'n')) === 'done');
  await until('the others hear', async () => late.key('mine') in (await maps.content()));

  // One is lost for good: the two others are a majority.
  maps.kill();
  await books.order('expel', maps.node, '--heir', books.node);
  await until('maps is out', async () => {
    const { marks } = (await late.order('status')) as { marks: Record<string, number> };
    return !(maps.node in marks);
  });
  expect(await late.content()).toEqual(await books.content());
}, 170_000);

test('a node with a certificate of another authority gets nothing', async () => {
  const books = await registry('books');
  const thief = await registry('maps', [books]);
  const maps = await RegistryProcess.init('maps2', directory);
  // Its id is known to books, but with another authority than the one it has.
  await books.know(thief, { authorityOf: maps });
  await thief.know(books);
  await Promise.all([books.up(), thief.up()]);
  await books.order('admit', thief.node);
  await until('it is refused', async () => thief.said.includes(`${books.node}: `));
  await sleep(500);
  const { marks } = (await thief.order('status')) as { marks: Record<string, number> };
  expect(marks).toEqual({});
  expect(thief.said).toMatch(/does not answer|E_unknownUser/);
  // Nor does books take anything from it.
  expect(books.said).toMatch(/uddi:maps\.example:node does not answer/);
}, 60_000);

test('attached to ledgers that run, two nodes hand an entity over; killed, one is attached again', async () => {
  const books = await registry('books');
  const maps = await registry('maps', [books]);
  await books.know(maps);
  await maps.know(books);
  await Promise.all([books.ledgerUp(), maps.ledgerUp()]);
  await Promise.all([books.attach(), maps.attach()]);
  await books.order('admit', maps.node);
  const key = books.key('moves');
  expect(await books.save(key, 'at books')).toBe('done');
  await until('maps has it', async () => (await maps.content())[key] === 'at books');
  // It is another publisher's, of another node.
  expect(await maps.save(key, 'too early')).toMatch(/^E_userMismatch/);

  const custody = (name: string, inner: string): string =>
    `<${name} xmlns="urn:uddi-org:custody_v3"><authInfo xmlns="urn:uddi-org:api_v3"/>${inner}</${name}>`;
  const bag = `<keyBag xmlns="urn:uddi-org:custody_v3"><key>${key}</key></keyBag>`;
  const answer = await books.ask(custody('get_transferToken', bag));
  const token = /<transferToken[\s\S]*<\/transferToken>/.exec(answer)?.[0] ?? answer;
  // Neither keeps anything that counts: not even a token that it has just given.
  books.killRegistry();
  await books.attach();
  expect(outcomeIn(await maps.ask(custody('transfer_entities', token + bag)))).toBe('done');
  await until('maps has custody', async () => (await maps.save(key, 'at maps')) === 'done');
  await until('books has heard', async () => (await books.content())[key] === 'at maps');
  expect(await books.save(key, 'too late')).toMatch(/^E_userMismatch/);
}, 60_000);
