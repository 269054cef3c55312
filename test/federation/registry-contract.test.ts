import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { bundleContract, type ContractBundle } from '../../src/contract/index.ts';
import { Harness } from '../../src/contract/testing/harness.ts';
import { identityBytes } from '../../src/model/index.ts';
import { DevelopmentCa } from '../../src/node/index.ts';
import type { ChangeRecord, Published } from '../../src/replication/federation/core/index.ts';

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
  const marks = await to.result('highWaterMarks');
  const { records } = JSON.parse(await from.result('pull', marks, '100')) as {
    records: ChangeRecord[];
  };
  await to.result('receive', JSON.stringify(records));
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

const draft = (key: string, references: readonly string[] = []): string =>
  JSON.stringify({ key, kind: 'business', references, content: { name: key } });

describe('the registry on the ledger', () => {
  it('writes change and change record together, and neither for a refusal', async () => {
    const [atA] = await twoNodes();
    const before = atA.state.texts('sample');
    expect(await atA.refusal('save', draft('uddi:b.example:x'))).toMatch(/E_keyUnavailable/);
    expect(atA.state.texts('sample')).toEqual(before);
    const { change } = JSON.parse(await atA.result('save', draft('uddi:a.example:x'))) as Published;
    const marks = JSON.parse(await atA.result('highWaterMarks')) as Record<string, number>;
    expect(marks[a]).toBe(change.usn);
  });

  it('settles the concurrent insert and delete the same way on both', async () => {
    const [atA, atB] = await twoNodes();
    await atB.result('save', draft('uddi:b.example:y'));
    await pull(atB, atA);
    const insert = JSON.parse(
      await atA.result('save', draft('uddi:a.example:x', ['uddi:b.example:y'])),
    ) as Published;
    await atB.result('remove', 'uddi:b.example:y');
    expect(insert.state).toBe('pending');
    await pull(atA, atB);
    await pull(atB, atA);
    await pull(atA, atB);
    const outcome = await atA.result('outcome', String(insert.change.usn));
    expect(JSON.parse(outcome)).toMatchObject({ state: 'failed', by: b });
    expect(await atB.result('entity', 'uddi:a.example:x')).toBe('null');
  });

  it('lets only the operator exchange records, and publishers touch only their own', async () => {
    const [atA] = await twoNodes();
    await atA.result('save', draft('uddi:a.example:x'));
    atA.creator = creators[1] as Uint8Array;
    expect(await atA.refusal('receive', '[]')).toMatch(/E_userMismatch/);
    expect(await atA.refusal('save', draft('uddi:a.example:x'))).toMatch(/E_userMismatch/);
    expect(await atA.refusal('remove', 'uddi:a.example:x')).toMatch(/E_userMismatch/);
    await atA.result('save', draft('uddi:a.example:y'));
  });

  it('copies a node in pages', async () => {
    const [atA] = await twoNodes();
    for (let at = 0; at < 20; at++) await atA.result('save', draft(`uddi:a.example:k${at}`));
    const late = newNode();
    await atA.result('admit', 'uddi:late.example:node');
    await late.result('join', 'uddi:late.example:node', JSON.stringify([a]));
    const marks = await atA.result('highWaterMarks');
    expect(await late.result('beginCopy', marks, '100')).toBe('true');
    for (let after: string | undefined = ''; after !== undefined; ) {
      const page = JSON.parse(await atA.result('copyPage', '16', after)) as {
        rows: unknown[];
        next?: string;
      };
      await late.result('writeCopy', JSON.stringify(page.rows));
      after = page.next;
    }
    await late.result('endCopy');
    expect(await late.result('entity', 'uddi:a.example:k7')).toBe(
      await atA.result('entity', 'uddi:a.example:k7'),
    );
    expect(JSON.parse(await late.result('highWaterMarks'))).toEqual(JSON.parse(marks));
  });
});
