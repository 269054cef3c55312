import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeKeyProof, makeReceipt, openBlockGenerator } from '../../blocks/index.ts';
import { testIdentity } from '../../blocks/testing/test-identity.ts';
import { TestLog } from '../../blocks/testing/test-log.ts';
import { realIo } from '../../io/index.ts';
import { stateKey } from '../../model/index.ts';
import { type Ran, runCaptured } from '../testing/run-captured.ts';

let directory: string;
let txId: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-verify-'));
  const member = await testIdentity('Org1MSP');
  const log = new TestLog(member).config();
  log.batch([{ writes: { a: '1' } }, { stale: true }, { reads: ['a'] }]).tick();
  const { signer } = member;
  const generator = await openBlockGenerator({ io: realIo(), directory, signer });
  await generator.push(log.entries);
  const { txIds } = await generator.describe(1);
  txId = txIds[0]?.toString('hex') ?? '';
  const save = (name: string, value: unknown): Promise<void> =>
    writeFile(join(directory, name), typeof value === 'string' ? value : JSON.stringify(value));
  await save('receipt.json', await makeReceipt(generator, txId));
  for (const name of ['a', 'none']) {
    const key = stateKey('bank', name);
    await save(`${name}.json`, await makeKeyProof(generator, key, () => log.rows.get(key)));
  }
  await save('channel.json', log.rows.get(stateKey('_config', 'channel'))?.value);
  await generator.close();
});
afterAll(() => rm(directory, { recursive: true }));

function daybook(...args: string[]): Promise<Ran> {
  return runCaptured(directory, args);
}

describe('daybook verify', () => {
  test('accepts what holds', async () => {
    const chain = await daybook('verify', 'chain', '.', '--trust', 'channel.json', '--json');
    expect(chain.err).toBe('');
    expect(JSON.parse(chain.out)).toMatchObject({ height: 3, records: 4, valid: 2 });
    const receipt = await daybook('verify', 'receipt', 'receipt.json', '--trust', 'channel.json');
    expect(receipt.out).toContain(`Transaction ${txId} is in the log at position 4096: valid.`);
    const present = await daybook('verify', 'key', 'a.json', '--trust', 'channel.json', '--json');
    expect(JSON.parse(present.out)).toMatchObject({ key: 'a', present: true, value: '1' });
    const absent = await daybook('verify', 'key', 'none.json', '--trust', 'channel.json');
    expect(absent.out).toBe('After block 2, bank has no key none.\n');
  });

  test('refuses what does not, with exit code 1 and the place', async () => {
    const names = await readdir(join(directory, 'blocks'));
    const file = join(directory, 'blocks', names.find((name) => name.endsWith('.pb')) as string);
    const good = await readFile(file);
    const bad = Buffer.from(good);
    const at = bad.indexOf('result of');
    bad[at] = 0x52;
    await writeFile(file, bad);
    const { code, out, err } = await daybook('verify', 'chain', 'blocks', '--json');
    await writeFile(file, good);
    expect(code).toBe(1);
    expect(JSON.parse(out).problem).toMatchObject({
      height: 1,
      what: 'the data hash does not hold',
    });
    expect(err).toContain('PROOF_INVALID');
    const twice = await daybook(
      'verify',
      'receipt',
      'receipt.json',
      '--trust',
      'channel.json',
      '--signatures',
      '2',
    );
    expect(twice.code).toBe(1);
    expect((await daybook('verify', 'receipt', 'receipt.json')).code).toBe(2);
    expect(
      (await daybook('verify', 'receipt', 'absent.json', '--trust', 'channel.json')).code,
    ).toBe(2);
    await writeFile(join(directory, 'odd.json'), '{"kind":1}');
    const odd = await daybook('verify', 'receipt', 'odd.json', '--trust', 'channel.json');
    expect(odd.code).toBe(1);
    expect(odd.err).toContain('MALFORMED: odd.json is no receipt (`daybook proof tx`)');
    const other = await daybook('verify', 'key', 'receipt.json', '--trust', 'channel.json');
    expect(other.err).toMatch(
      /^MALFORMED: receipt.json is a receipt, no key proof: check it with `daybook verify receipt`$/m,
    );
    const trust = await daybook('verify', 'receipt', 'receipt.json', '--trust', 'receipt.json');
    expect(trust.err).toContain('receipt.json is neither a channel configuration nor an msp.json');
    const proof = await daybook('verify', 'receipt', 'a.json', '--trust', 'channel.json');
    expect(proof.err).toContain('a.json is a key proof, no receipt');
    expect((await daybook('verify', 'chain', 'nowhere')).code).toBe(2);
  });
});

describe('daybook block', () => {
  test('lists, shows and fetches', async () => {
    const list = await daybook('block', 'list', '--files', '.', '--json');
    expect(
      list.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).records),
    ).toEqual([1, 2, 1]);
    expect((await daybook('block', 'list', '--files', 'blocks')).out).toContain('log time');
    const show = await daybook('block', 'show', '1', '--files', '.');
    expect(show.out).toContain('readConflict');
    expect(show.out).toContain(txId.slice(0, 16));
    expect(show.out).toContain(', 1 signature\n');
    const fetched = await daybook('block', 'fetch', '1', 'block1.pb', '--files', '.');
    expect(fetched.code).toBe(0);
    expect((await readFile(join(directory, 'block1.pb'))).length).toBeGreaterThan(1000);
    expect((await daybook('block', 'show', '9', '--files', '.')).code).toBe(2);
  });
});
