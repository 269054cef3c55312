import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { IdentityVerifier } from '../model/index.ts';
import { IdentityStore } from './identity-store.ts';

let directory: string;
let store: IdentityStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-identities-'));
  store = new IdentityStore(realIo(), directory);
});
afterEach(() => rm(directory, { recursive: true }));

test('identities survive a restart and are trusted under their MSP', async () => {
  const created = await store.create('alice', 'Org1MSP', { role: 'admin' });
  const again = new IdentityStore(realIo(), directory);
  const loaded = await again.load('alice');
  expect(loaded.identity).toEqual(created.identity);
  await again.create('bob', 'Org2MSP');
  expect(await again.names()).toEqual(['alice', 'bob']);

  const configs = await again.mspConfigs();
  expect(configs.map(({ mspId }) => mspId)).toEqual(['Org1MSP', 'Org2MSP']);
  const verifier = new IdentityVerifier(configs);
  const message = Buffer.from('m');
  verifier.checkSignature(created.identity, message, loaded.signer.sign(message));
  const onDisk = JSON.parse(await readFile(join(directory, 'msps', 'Org1MSP.json'), 'utf8'));
  expect(onDisk).toEqual(configs[0]);
});

test('private keys are for the owner only', async () => {
  const { privateKeyFile } = await store.create('alice', 'Org1MSP');
  for (const file of [privateKeyFile, join(directory, 'msps', 'Org1MSP.ca.key.pem')]) {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  }
});

test('describes what the certificate says', async () => {
  await store.create('alice', 'Org1MSP', { role: 'admin' });
  expect(await store.describe('alice')).toMatchObject({
    name: 'alice',
    mspId: 'Org1MSP',
    role: 'admin',
    subject: 'CN=alice, O=Org1MSP, OU=admin',
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});

test('a taken, unknown or dangerous name is refused', async () => {
  await store.create('alice', 'Org1MSP');
  await expect(store.create('alice', 'Org1MSP')).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  await expect(store.load('bob')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  for (const name of ['../alice', '', '.hidden', 'a/b']) {
    await expect(store.create(name, 'Org1MSP')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(store.authority(name)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  }
});
