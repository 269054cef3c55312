import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/base/index.ts';
import { bundleContract, type ContractBundle } from '../../src/contract/index.ts';
import { Harness } from '../../src/contract/testing/harness.ts';
import { identityBytes } from '../../src/model/index.ts';
import { DevelopmentCa } from '../../src/node/index.ts';
import type { ChangeRecord } from '../../src/replication/federation/core/index.ts';
import { type PublicationAnswer, parseXml } from '../../src/replication/federation/uddi/index.ts';

const directory = fileURLToPath(new URL('../../examples/contracts/registry', import.meta.url));
const [a, b] = ['uddi:a.example:node', 'uddi:b.example:node'] as const;

let bundle: ContractBundle;
let creators: readonly Uint8Array[];

/** A node whose operator is the first identity. */
function newNode(): Harness {
  const node = new Harness([bundle]);
  node.creator = creators[0] as Uint8Array;
  return node;
}

beforeAll(async () => {
  bundle = { ...(await bundleContract(directory)), name: 'sample' };
  const ca = await DevelopmentCa.create('Org1MSP', 1_700_000_000_000);
  const made = [
    await ca.issue('ann', { role: 'client' }),
    await ca.issue('bob', { role: 'client' }),
  ];
  creators = made.map(({ identity }) => identityBytes(identity));
});

async function pull(from: Harness, to: Harness): Promise<readonly ChangeRecord[]> {
  const marks = await to.result('askingMarks');
  const { records } = JSON.parse(await from.result('pull', marks, '100', '')) as {
    records: ChangeRecord[];
  };
  await to.result('receive', JSON.stringify(records), '', '');
  return records;
}

async function twoNodes(): Promise<[Harness, Harness]> {
  const [atA, atB] = [newNode(), newNode()];
  await atA.result('found', a);
  await atA.result('admit', b);
  await atB.result('join', b, JSON.stringify([a]));
  await pull(atA, atB);
  return [atA, atB];
}

/** A message that saves a business, whose contact has an address of a form of one's own. */
const draft = (key: string, references: readonly string[] = [], names = ''): string => {
  const services = references.map(
    (binding) =>
      `<businessServices><businessService><bindingTemplates><bindingTemplate><hostingRedirector bindingKey="${binding}"/></bindingTemplate></bindingTemplates></businessService></businessServices>`,
  );
  const inner = `<name>${key}</name>${names}${services.join('')}`;
  const entity = `<businessEntity businessKey="${key}">${inner}</businessEntity>`;
  return JSON.stringify(parseXml(`<save_business>${entity}</save_business>`));
};

/** A business with a binding that others can refer to. */
const withBinding = (key: string): string =>
  JSON.stringify(
    parseXml(
      `<save_business><businessEntity businessKey="${key}"><name>n</name><businessServices><businessService serviceKey="${key}-s"><bindingTemplates><bindingTemplate bindingKey="${key}-b"><accessPoint>http://b.example</accessPoint></bindingTemplate></bindingTemplates></businessService></businessServices></businessEntity></save_business>`,
    ),
  );

const removal = (key: string): string =>
  JSON.stringify(parseXml(`<delete_business><businessKey>${key}</businessKey></delete_business>`));

describe('the registry on the ledger', () => {
  it('writes change and change record together, and neither for a refusal', async () => {
    const [atA] = await twoNodes();
    const before = atA.state.texts('sample');
    expect(await atA.refusal('publish', draft('uddi:b.example:x'))).toMatch(/E_keyUnavailable/);
    expect(atA.state.texts('sample')).toEqual(before);
    const marksOf = async (): Promise<Record<string, number>> =>
      JSON.parse(await atA.result('highWaterMarks')) as Record<string, number>;
    const last = (await marksOf())[a] ?? 0;
    await atA.result('publish', draft('uddi:a.example:x'));
    expect((await marksOf())[a]).toBe(last + 1);
    const outcome = JSON.parse(await atA.result('outcome', String(last + 1)));
    expect(outcome).toMatchObject({ key: 'uddi:a.example:x', state: 'committed' });
  });

  it('settles the concurrent insert and delete the same way on both', async () => {
    const [atA, atB] = await twoNodes();
    await atB.result('publish', withBinding('uddi:b.example:y'));
    await pull(atB, atA);
    const { pending } = JSON.parse(
      await atA.result('publish', draft('uddi:a.example:x', ['uddi:b.example:y-b'])),
    ) as PublicationAnswer;
    await atB.result('publish', removal('uddi:b.example:y'));
    expect(pending).toHaveLength(1);
    await pull(atA, atB);
    await pull(atB, atA);
    await pull(atA, atB);
    const outcome = await atA.result('outcome', String(pending[0]));
    expect(JSON.parse(outcome)).toMatchObject({ state: 'failed', by: b });
    expect(await atB.result('entity', 'uddi:a.example:x')).toBe('null');
  });

  it('lets only the operator exchange records, and publishers touch only their own', async () => {
    const [atA] = await twoNodes();
    await atA.result('publish', draft('uddi:a.example:x'));
    atA.creator = creators[1] as Uint8Array;
    expect(await atA.refusal('receive', '[]', '', '')).toMatch(/E_userMismatch/);
    expect(await atA.refusal('publish', draft('uddi:a.example:x'))).toMatch(/E_userMismatch/);
    expect(await atA.refusal('publish', removal('uddi:a.example:x'))).toMatch(/E_userMismatch/);
    await atA.result('publish', draft('uddi:a.example:y'));
    expect(await atA.refusal('publishFor', 'ann', draft('uddi:a.example:z'))).toMatch(
      /E_userMismatch/,
    );
    // Who publishes without the service is checked by the contract, too.
    for (const message of [
      '{}',
      'null',
      '{"name":"save_business","attributes":{},"children":[],"text":""}',
      draft('uddi:a.example:z').replace('"name":"name"', '"name":"strange"'),
    ]) {
      expect(await atA.refusal('publish', message)).toMatch(/CONTRACT_/);
    }
  });

  it('copies a node in pages', async () => {
    const [atA] = await twoNodes();
    // So much that few of them fit into an argument of a call.
    const names = `<name xml:lang="zh">${'記'.repeat(250)}</name>`.repeat(400);
    for (let at = 0; at < 20; at++) {
      await atA.result('publish', draft(`uddi:a.example:k${at}`, [], at % 3 === 0 ? names : ''));
    }
    const late = newNode();
    await atA.result('admit', 'uddi:late.example:node');
    await late.result('join', 'uddi:late.example:node', JSON.stringify([a]));
    const marks = await atA.result('highWaterMarks');
    expect(await late.result('beginCopy', marks, '100')).toBe('true');
    let pages = 0;
    for (let after: string | undefined = ''; after !== undefined; pages++) {
      const page = JSON.parse(await atA.result('copyPage', '1000', after)) as {
        rows: unknown[];
        next?: string;
      };
      const argument = JSON.stringify(page.rows);
      expect(Buffer.byteLength(argument)).toBeLessThan(limits.argumentBytesMax);
      await late.result('writeCopy', argument);
      after = page.next;
    }
    await late.result('endCopy');
    expect(pages).toBeGreaterThan(3);
    expect(await late.result('entity', 'uddi:a.example:k7')).toBe(
      await atA.result('entity', 'uddi:a.example:k7'),
    );
    expect(JSON.parse(await late.result('highWaterMarks'))).toEqual(JSON.parse(marks));
  });
});
