import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testServerCertificate } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import { readTlsFiles } from './tls-files.ts';

let directory: string;
const io = realIo();
const file = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-tls-'));
  const one = await testServerCertificate('localhost');
  const other = await testServerCertificate('localhost');
  await writeFile(file('ca.pem'), one.ca);
  await writeFile(file('own.pem'), one.cert);
  await writeFile(file('own.key'), one.key);
  await writeFile(file('other.key'), other.key);
  await writeFile(file('text'), 'no PEM at all');
});
afterAll(() => rm(directory, { recursive: true }));

test('files that belong together are read', async () => {
  const files = { ca: file('ca.pem'), certificate: file('own.pem'), key: file('own.key') };
  const read = await readTlsFiles(io, files);
  expect(Object.keys(read)).toEqual(['ca', 'certificate', 'key']);
  expect(await readTlsFiles(io, {})).toEqual({});
});

test.each([
  ['own.pem', 'missing', /there is no file .*missing/],
  ['own.pem', 'other.key', /other.key is the key of another certificate than .*own.pem/],
  ['own.pem', 'own.pem', /own.pem is no private key \(PEM\)/],
  ['own.key', 'own.key', /own.key is no certificate \(PEM\)/],
  ['text', 'own.key', /text is no certificate \(PEM\)/],
])('what is wrong is named: %s with %s', async (certificate, key, message) => {
  const files = { certificate: file(certificate), key: file(key) };
  await expect(readTlsFiles(io, files)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(message),
  });
});

test('an expired certificate is said', async () => {
  const events: string[] = [];
  const later = { ...io.clock, nowMs: () => Date.now() + 1_000 * 365 * 86_400_000 };
  const files = { certificate: file('own.pem'), key: file('own.key') };
  await readTlsFiles({ disk: io.disk, clock: later }, files, (text) => events.push(text));
  expect(events).toEqual([expect.stringMatching(/own.pem expired on .* GMT: others refuse it/)]);
});
