import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../src/io/testing/free-ports.ts';
import { Administration, outcomeIn } from './administration.ts';

const names = ['books', 'maps', 'late'] as const;
const waitMs = 30_000;

/**
 * Two registries, the case in which one inserts what the other deletes at the same time, and a third
 * that joins later: three ledgers of three administrations, which meet over mutual TLS. `say` hears
 * every step; the result tells how it ended.
 */
export async function runRegistryExample(
  say: (text: string) => void,
): Promise<{ readonly sameEverywhere: boolean; readonly loserTold: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-registry-'));
  const all: Administration[] = [];
  for (const name of names) {
    const port = await freePort();
    all.push(new Administration(`uddi:${name}.example:node`, join(directory, name), port));
  }
  const [books, maps, late] = all as [Administration, Administration, Administration];
  const quiet = (): void => undefined;
  try {
    await books.init('ann');
    await maps.init('bob', [books.node]);
    await late.init('eve', [books.node]);
    // Authorities are exchanged beforehand, outside the registry.
    for (const one of all) for (const other of all) if (one !== other) await one.know(other);
    await Promise.all([books.start(quiet), maps.start(quiet)]);
    await books.order('admit', maps.node);
    const [ann, bob] = [await books.token('ann'), await maps.token('bob')];
    say('Two registries, books and maps, keep one directory.');

    const y = 'uddi:maps.example:y';
    await until(async () => outcomeIn(await maps.ask(save(bob, offering(y)))) === 'done');
    await until(() => has(books, y));
    say('maps publishes Y, and books has it, too.');

    say('Cut off from one another, books inserts X, which refers to Y, and maps deletes Y:');
    const x = 'uddi:books.example:x';
    await maps.stopRegistry();
    const insert = books.ask(save(ann, referring(x, `${y}-http`)));
    await sleep(200);
    say('  books: X waits; it takes effect when all members have acknowledged it');
    // On its own ledger, where nobody has heard of X.
    const bobs = deletion(y);
    await maps.order('publishFor', 'bob', JSON.stringify(bobs));
    say('  maps: Y is deleted');
    await maps.start(quiet);
    const loserTold = outcomeIn(await insert);
    say(`  books is told: ${loserTold}`);

    const z = 'uddi:maps.example:z';
    const again = await maps.token('bob');
    await maps.ask(save(again, offering(z)));
    await until(() => has(books, z));
    say('The other order: X2 refers to Z, and maps hears of it before it deletes Z:');
    const x2 = 'uddi:books.example:x2';
    const second = outcomeIn(await books.ask(save(ann, referring(x2, `${z}-http`))));
    say(`  books: X2 is inserted: ${second}`);
    const refused = outcomeIn(await maps.ask(remove(again, z)));
    say(`  maps deletes Z: ${refused}`);

    await late.start(quiet);
    await books.order('admit', late.node);
    await until(() => has(late, x2));
    say('A third registry joins and gets everything.');
    await until(async () => (await has(maps, x2)) && (await has(late, z)));
    const keys = [x, y, z, x2];
    const views: string[] = [];
    for (const one of all) {
      const found: string[] = [];
      for (const key of keys) found.push(`${key} ${(await has(one, key)) ? 'yes' : 'no'}`);
      views.push(found.join(', '));
      say(`${one.node}: ${found.join(', ')}`);
    }
    const sameEverywhere = new Set(views).size === 1;
    say(sameEverywhere ? 'All three say the same, and nothing dangles.' : 'They differ!');
    return { sameEverywhere, loserTold };
  } finally {
    await Promise.all(all.map((one) => one.stop()));
    await rm(directory, { recursive: true, force: true });
  }
}

async function has(one: Administration, key: string): Promise<boolean> {
  const answer = await one.ask(
    `<get_businessDetail xmlns="urn:uddi-org:api_v3"><businessKey>${key}</businessKey></get_businessDetail>`,
  );
  return outcomeIn(answer) === 'done';
}

async function until(check: () => Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await check())) {
    if (performance.now() - started > waitMs) throw new Error('it does not come');
    await sleep(50);
  }
}

function save(token: string, business: string): string {
  return `<save_business xmlns="urn:uddi-org:api_v3"><authInfo>${token}</authInfo>${business}</save_business>`;
}

function remove(token: string, key: string): string {
  return `<delete_business xmlns="urn:uddi-org:api_v3"><authInfo>${token}</authInfo><businessKey>${key}</businessKey></delete_business>`;
}

/** The same as an element, as the contract takes it. */
function deletion(key: string): object {
  const named = { name: 'businessKey', attributes: {}, children: [], text: key };
  return { name: 'delete_business', attributes: {}, children: [named], text: '' };
}

function offering(key: string): string {
  return business(key, '<accessPoint>http://maps.example/</accessPoint>');
}

function referring(key: string, binding: string): string {
  return business(key, `<hostingRedirector bindingKey="${binding}"/>`);
}

function business(key: string, where: string): string {
  const binding = `<bindingTemplate bindingKey="${key}-http">${where}</bindingTemplate>`;
  const service = `<businessService serviceKey="${key}-service"><bindingTemplates>${binding}</bindingTemplates></businessService>`;
  return `<businessEntity businessKey="${key}"><name>${key}</name><businessServices>${service}</businessServices></businessEntity>`;
}
