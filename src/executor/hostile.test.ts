import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundleContract } from '../contract/index.ts';
import { openTestChannel, type TestChannel } from './testing/harness.ts';
import { hostileSource } from './testing/hostile-contract.ts';

/*
 * Contracts that take their process with them, against real processes: the culprit gets a typed
 * error, every other call commits, and the executor goes on.
 */

let channel: TestChannel;
let directory: string;

beforeAll(async () => {
  // Inside the repository, so that the contract finds fabric-contract-api.
  directory = await mkdtemp(join(import.meta.dirname, 'testing', '.hostile-'));
  const manifest = { name: 'hostile', version: '1.0.0', main: 'index.js' };
  await writeFile(join(directory, 'package.json'), JSON.stringify(manifest));
  await writeFile(join(directory, 'index.js'), hostileSource);
  const bundle = await bundleContract(directory);
  channel = await openTestChannel({
    executor: {
      limits: { contractCpuMsMax: 500, contractHeapMiBMax: 64, contractBufferBytesMax: 2 ** 25 },
    },
  });
  expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
});

afterAll(async () => {
  await channel.close();
  await rm(directory, { recursive: true, force: true });
});

const cases: [string, string[]][] = [
  ['loop', ['CONTRACT_TIMEOUT']],
  // Collecting garbage in vain is CPU time too.
  ['heap', ['CONTRACT_MEMORY', 'CONTRACT_TIMEOUT']],
  // The realm counts buffers too; whoever notices first.
  ['buffers', ['CONTRACT_MEMORY']],
  ['huge', ['CONTRACT_MEMORY', 'CONTRACT_REJECTED', 'CONTRACT_TIMEOUT']],
  ['rejection', ['CONTRACT_CRASHED', 'CONTRACT_REJECTED']],
  ['deep', ['CONTRACT_REJECTED', 'CONTRACT_CRASHED']],
];

it.each(cases)('%s: a typed error for the culprit, others commit', async (name, codes) => {
  const good = (key: string) => ({ contract: 'hostile', functionName: 'good', args: [key] });
  const bad = { contract: 'hostile', functionName: name, args: [`${name}-key`] };
  const before = Array.from({ length: 10 }, (_, at) => good(`${name}-${at % 3}`));
  const [first, second] = await Promise.all([
    channel.submit(0, [...before, bad, ...before]),
    channel.submit(0, before),
  ]);
  const culprit = first[10];
  expect(culprit?.status).toBe('rejected');
  expect(codes).toContain(culprit?.status === 'rejected' ? culprit.error.code : '');
  const others = [...first.slice(0, 10), ...first.slice(11), ...second];
  expect(others.map((outcome) => outcome.status)).toEqual(others.map(() => 'committed'));
  const [after] = await channel.submit(0, [good(`${name}-0`)]);
  expect(after).toMatchObject({ status: 'committed', result: String(3 * 4 + 1) });
});
