import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { blockFiles, ChainExecution, decodeBlock, encodeBlock } from '../../src/blocks/index.ts';
import { type Ran, runCaptured } from '../../src/cli/testing/run-captured.ts';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';
import { rotBlocks } from './rot-blocks.ts';

/*
 * What is posted from the log, on a real network of two executors: each makes the same chain, and
 * what it hands out is checked by the command line from files alone.
 */

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

let directory: string;
let network: NodeRoom.Network;
let client: Client;
let txId: string;
let position: number;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-blocks-'));
  network = await startNetwork({ directory, executors: 2, httpPort: 0, tickIntervalMs: 200 });
  const { channel, gateways, signer } = network;
  const file = { version: 1, channel, gateways, mspId: signer.identity.mspId, identity: 'admin' };
  writeFileSync(join(directory, 'network.json'), JSON.stringify(file));
  client = await connect({ gateways, channel, signer });
  await client.deploy(await bundleContract(join(root, 'examples/contracts/bank')));
  await client.submit('bank', 'open', ['alice', 'Alice', '100']);
  await client.submit('bank', 'open', ['bob', 'Bob', '0']);
  const transfers = Array.from({ length: 40 }, () =>
    client.submit('bank', 'transfer', ['alice', 'bob', '0.5']),
  );
  const last = (await Promise.all(transfers)).at(-1);
  txId = last?.txId ?? '';
  position = last?.position ?? 0;
}, 60_000);

afterAll(async () => {
  await client.close();
  await network.close();
  rmSync(directory, { recursive: true, force: true });
});

/** The command line as users have it, in the network's directory. */
function daybook(...args: string[]): Promise<Ran> {
  return runCaptured(directory, args);
}

/** Both nodes' chains, once they hold every record and have equal heights. */
async function level(): Promise<readonly (NodeRoom.ExecutorNodeStatus['blocks'] | undefined)[]> {
  const until = performance.now() + 60_000;
  for (;;) {
    const { executors } = await network.status();
    const chains = executors.map(({ status }) => status?.blocks);
    const heights = new Set(chains.map((chain) => chain?.height));
    const done = chains.every((chain) => (chain?.position ?? 0) > position);
    if ((done && heights.size === 1) || performance.now() > until) return chains;
    await sleep(50);
  }
}

const trust = ['--trust', 'identities/msp.json'];

test('two nodes make the same chain, and status shows it', async () => {
  const [one, two] = await level();
  expect(one?.height).toBeGreaterThan(2);
  expect(two).toEqual(one);
  const status = JSON.parse((await daybook('status', '-d', '.', '--json')).out);
  expect(status.disagree).toEqual([]);
  expect(status.gateways.map((gateway: { blocks: unknown }) => gateway.blocks)).toEqual([one, two]);
  expect((await daybook('status', '-d', '.')).out).toContain(one?.stateRoot?.slice(0, 16));

  const unsigned = async (node: string): Promise<Buffer[]> => {
    const blocks: Buffer[] = [];
    for await (const bytes of blockFiles(realIo().disk, join(directory, node, 'chain/blocks'))) {
      const { header, envelopes, metadata } = decodeBlock(bytes);
      // The first holds the signatures; what they cover is compared by `verify chain` below.
      blocks.push(encodeBlock({ header, envelopes, metadata: metadata.slice(1) }));
    }
    return blocks;
  };
  const [left, right] = [await unsigned('executor-1'), await unsigned('executor-2')];
  expect(left).toHaveLength(one?.height ?? -1);
  expect(left.every((block, at) => block.equals(right[at] as Buffer))).toBe(true);
}, 90_000);

test('an idle channel gets no ticks', async () => {
  await level();
  const { tail } = await network.status();
  await sleep(700);
  expect((await network.status()).tail).toBe(tail);
}, 90_000);

test('both chains hold offline, executed again from their files', async () => {
  await level();
  for (const node of ['executor-1', 'executor-2']) {
    const { code, out, err } = await daybook(
      ...['verify', 'chain', node, '--execute', ...trust, '--json'],
    );
    expect({ code, err }).toEqual({ code: 0, err: '' });
    // The deployment, two accounts, forty transfers; the configuration is not executed.
    expect(JSON.parse(out)).toMatchObject({
      valid: 43,
      execution: { executed: 43, notComparable: 0 },
    });
  }
}, 90_000);

test('receipts and key proofs are verified offline; altered ones are not', async () => {
  expect((await daybook('proof', 'tx', txId, '-d', '.', '--out', 'receipt.json')).code).toBe(0);
  const receipt = await daybook('verify', 'receipt', 'receipt.json', ...trust, '--json');
  expect(JSON.parse(receipt.out)).toMatchObject({ txId, position, verdict: 'valid' });
  const { code } = await daybook('proof', 'tx', '0'.repeat(64), '-d', '.');
  expect(code).toBe(1);

  await daybook('proof', 'key', 'bank', 'account/bob', '-d', '.', '--out', 'bob.json');
  const bob = JSON.parse((await daybook('verify', 'key', 'bob.json', ...trust, '--json')).out);
  expect(JSON.parse(bob.value)).toMatchObject({ balance: '20' });
  await daybook('proof', 'key', 'bank', 'account/nobody', '-d', '.', '--out', 'nobody.json');
  const nobody = await daybook('verify', 'key', 'nobody.json', ...trust);
  expect(nobody.out).toContain('bank has no key account/nobody');

  const forged = JSON.parse(readFileSync(join(directory, 'receipt.json'), 'utf8'));
  writeFileSync(join(directory, 'forged.json'), JSON.stringify({ ...forged, verdict: 11 }));
  const refused = await daybook('verify', 'receipt', 'forged.json', ...trust);
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('PROOF_INVALID') });
}, 90_000);

test('blocks come from the network as from files, and a changed byte is found', async () => {
  const [chain] = await level();
  const height = chain?.height ?? 0;
  const copied = await daybook('block', 'copy', 'copy', '-d', '.', '--json');
  expect(JSON.parse(copied.out)).toMatchObject({ height, copied: height });
  expect(JSON.parse((await daybook('block', 'copy', 'copy', '-d', '.', '--json')).out).copied).toBe(
    0,
  );
  expect((await daybook('verify', 'chain', 'copy', ...trust)).code).toBe(0);
  const ofNetwork = await daybook('block', 'show', '1', '-d', '.', '--json');
  const ofFiles = await daybook('block', 'show', '1', '--files', 'copy', '--json');
  expect(ofNetwork.out).toBe(ofFiles.out);
  expect((await daybook('block', 'list', '-d', '.', '--limit', '2')).out.split('\n')).toHaveLength(
    4,
  );
  expect((await daybook('block', 'show', String(height), '-d', '.')).code).toBe(2);

  const name = readdirSync(join(directory, 'copy')).find((file) => file.endsWith('.pb')) ?? '';
  const path = join(directory, 'copy', name);
  const bytes = readFileSync(path);
  const at = bytes.lastIndexOf('{"owner":"Bob"');
  expect(at).toBeGreaterThan(0);
  bytes[at + 11] = 'R'.charCodeAt(0);
  writeFileSync(path, bytes);
  const tampered = await daybook('verify', 'chain', 'copy', ...trust);
  expect(tampered).toMatchObject({
    code: 1,
    err: expect.stringMatching(
      /^PROOF_INVALID: block \d+ \(blocks-0+\.pb, byte \d+\): the data hash/,
    ),
  });
}, 90_000);

test('a transaction that its contract did not make is named, whoever signed the block', async () => {
  await level();
  const execution = new ChainExecution(realIo());
  const check = async (): Promise<void> => {
    for await (const bytes of blockFiles(
      realIo().disk,
      join(directory, 'executor-1/chain/blocks'),
    )) {
      const lie = Buffer.from(bytes);
      const at = lie.indexOf('"owner":"Alice","balance":"100"');
      if (at > 0) lie.write('900', at + 28);
      await execution.next(lie);
    }
  };
  await expect(check()).rejects.toMatchObject({
    code: 'PROOF_INVALID',
    message: expect.stringMatching(/writes other values: bank\/account\/alice$/),
    details: { transaction: expect.any(Number) },
  });
}, 90_000);

test('the stream pushes blocks from any height on, those to come included', async () => {
  const [chain] = await level();
  const height = chain?.height ?? 0;
  const stop = new AbortController();
  const url = `${network.gateways[1]}/v1/channels/main/blocks/stream?from=${height - 1}`;
  const answer = await fetch(url, { signal: stop.signal });
  const heights: number[] = [];
  let rest = Buffer.alloc(0);
  const read = async (): Promise<void> => {
    for await (const piece of answer.body as unknown as AsyncIterable<Uint8Array>) {
      rest = Buffer.concat([rest, piece]);
      for (;;) {
        const frame = firstFrame(rest);
        if (frame === undefined) break;
        if (frame.block.length > 0) heights.push(decodeBlock(frame.block).header.number);
        rest = rest.subarray(frame.end);
      }
      if (heights.length >= 2) return;
    }
  };
  const reading = read();
  await client.submit('bank', 'open', ['carol', 'Carol', '1']);
  await reading;
  stop.abort();
  expect(heights.slice(0, 2)).toEqual([height - 1, height]);
}, 90_000);

test('a node that is killed goes on with the same chain', async () => {
  const before = (await level())[0]?.height ?? 0;
  const pid = (await network.status()).executors[0]?.pid ?? 0;
  process.kill(pid, 'SIGKILL');
  ({ position } = await client.submit('bank', 'transfer', ['alice', 'bob', '1']));
  const [one, two] = await level();
  expect(one?.height).toBeGreaterThan(before);
  expect(two).toEqual(one);
  expect((await daybook('verify', 'chain', 'executor-1', ...trust)).code).toBe(0);
}, 120_000);

test('blocks that rotted on the disk are refused, and made again from the log', async () => {
  await level();
  const [url] = network.gateways as [string];
  const ask = async (): Promise<Response> => await fetch(`${url}/v1/channels/main/blocks/1`);
  const before = Buffer.from(await (await ask()).arrayBuffer());
  rotBlocks(join(directory, 'executor-1/chain'), 1);
  const refused = await ask();
  expect(refused.status).toBe(500);
  expect(await refused.json()).toMatchObject({
    code: 'STATE_DAMAGED',
    message: expect.stringContaining('block 1 in blocks-0'),
  });
  const until = performance.now() + 60_000;
  let answer = refused;
  while (!answer.ok && performance.now() < until) {
    await sleep(100);
    answer = await ask();
  }
  const after = decodeBlock(Buffer.from(await answer.arrayBuffer()));
  expect(after.header).toEqual(decodeBlock(before).header);
  ({ position } = await client.submit('bank', 'transfer', ['alice', 'bob', '1']));
  const [one, two] = await level();
  expect(two).toEqual(one);
  expect((await daybook('verify', 'chain', 'executor-1', ...trust)).code).toBe(0);
}, 120_000);

test('blocks that rotted and that nobody wants are found, and made again', async () => {
  await level();
  const chain = join(directory, 'executor-2/chain');
  rotBlocks(chain, 1);
  const verified = async (): Promise<number> =>
    (await daybook('verify', 'chain', 'executor-2', ...trust)).code;
  const rotted = readFileSync(join(chain, 'blocks/blocks-0000000000.pb'));
  const until = performance.now() + 60_000;
  while (performance.now() < until) {
    await sleep(100);
    const bytes = readFileSync(join(chain, 'blocks/blocks-0000000000.pb'));
    if (!bytes.subarray(0, rotted.length).equals(rotted)) break;
  }
  expect(await verified()).toBe(0);
  ({ position } = await client.submit('bank', 'transfer', ['alice', 'bob', '1']));
  const [one, two] = await level();
  expect(two).toEqual(one);
}, 120_000);

/** One block behind its length; `undefined` when it has not come whole. */
function firstFrame(bytes: Buffer): { block: Buffer; end: number } | undefined {
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    length += (byte & 0x7f) * 0x80 ** at;
    if (byte >= 0x80) continue;
    const end = at + 1 + length;
    return end > bytes.length ? undefined : { block: bytes.subarray(at + 1, end), end };
  }
  return undefined;
}
