import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { isDaybookError } from '../../src/base/index.ts';
import { runCaptured } from '../../src/cli/testing/run-captured.ts';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';
import { discrepancies, startTellers } from './transfers.ts';

/*
 * One of three nodes has a wrong state: by bytes changed on the disk, by a row changed in memory, and
 * by a fault that comes again however often the state is restored.
 */

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

interface Told {
  readonly timeMs: number;
  readonly text: string;
}

interface Bench {
  readonly directory: string;
  readonly network: NodeRoom.Network;
  readonly clients: readonly Client[];
  readonly events: Told[];
}

const pauseMs = 20;
const ends: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(environment: Readonly<Record<string, string>>): Promise<Bench> {
  Object.assign(process.env, environment);
  ends.push(async () => {
    for (const name of Object.keys(environment)) delete process.env[name];
  });
  const directory = mkdtempSync(join(tmpdir(), 'daybook-repair-'));
  ends.push(async () => rmSync(directory, { recursive: true, force: true }));
  const events: Told[] = [];
  const network = await startNetwork({
    directory,
    executors: 3,
    httpPort: 0,
    tickIntervalMs: 200,
    repair: { intervalMs: 200, scrubRowsPerS: 20_000 },
    onEvent: (text) => events.push({ timeMs: performance.now(), text }),
  });
  ends.push(() => network.close());
  const { channel, gateways, signer } = network;
  const file = { version: 1, channel, gateways, mspId: signer.identity.mspId, identity: 'admin' };
  writeFileSync(join(directory, 'network.json'), JSON.stringify(file));
  const clients = await Promise.all(
    gateways.map((gateway) => connect({ gateways: [gateway], channel, signer })),
  );
  for (const client of clients) ends.push(() => client.close({ now: true }));
  await clients[0]?.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
  await clients[0]?.submit('bench', 'fill', ['vault', '0', '300']);
  return { directory, network, clients, events };
}

/** Every gateway is asked for a balance, on and on; what was answered, and when. */
function startReaders(
  clients: readonly Client[],
  key: string,
): {
  readonly answers: { timeMs: number; gateway: number; balance: string }[];
  stop(): Promise<void>;
} {
  const answers: { timeMs: number; gateway: number; balance: string }[] = [];
  let stopped = false;
  const running = clients.map(async (client, gateway) => {
    while (!stopped) {
      try {
        const result = await client.evaluate('bench', 'read', [key], { deadlineMs: 500 });
        answers.push({ timeMs: performance.now(), gateway, balance: result.text() });
      } catch (error) {
        if (!isDaybookError(error)) throw error;
      }
      await sleep(10);
    }
  });
  return {
    answers,
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
  };
}

/**
 * Asks a gateway on and on and keeps the codes of its refusals. A client would not do: it lets a
 * gateway that failed rest, and may so miss the whole repair.
 */
function startProbe(gateway: string): { readonly codes: Set<string>; stop(): Promise<void> } {
  const codes = new Set<string>();
  let stopped = false;
  const probe = async (): Promise<void> => {
    while (!stopped) {
      // Nobody listens while the process is started again.
      const answer = await fetch(`${gateway}/v1/channels/main/contracts`).catch(() => undefined);
      const body: unknown = await answer?.json().catch(() => undefined);
      if (answer?.ok === false) codes.add((body as { code: string } | undefined)?.code ?? '');
      await sleep(5);
    }
  };
  const running = probe();
  return {
    codes,
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}

async function until(
  what: string,
  done: () => boolean | Promise<boolean>,
  events: readonly Told[],
): Promise<void> {
  const endMs = performance.now() + 120_000;
  while (!(await done())) {
    if (performance.now() > endMs) {
      throw new Error(`${what} did not come:\n${events.map(({ text }) => text).join('\n')}`);
    }
    await sleep(50);
  }
}

/** Writes another digit into a row's value wherever the file has it. */
function spoilOnDisk(file: string, key: string): boolean {
  // Sparse, and much larger than what is in use.
  const bytes = Buffer.alloc(32 * 1024 * 1024);
  const fd = openSync(file, 'r+');
  readSync(fd, bytes, 0, bytes.length, 0);
  const wanted = Buffer.from(`bench\0${key}`);
  let found = false;
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) {
    const value = bytes.indexOf('{"balance":0,', at);
    if (value === -1 || value > at + wanted.length + 24) continue;
    writeSync(fd, '9', value + 11);
    found = true;
  }
  closeSync(fd);
  return found;
}

function evidenceOf(directory: string, node: string): string[] {
  const repair = join(directory, node, 'repair');
  if (!existsSync(repair)) return [];
  return readdirSync(repair).filter((name) => name.startsWith('evidence-'));
}

test.each([
  ['on the disk', 1, 'vault299'],
  ['in memory', 2, 'vault9'],
])(
  'a row changed %s: the node stops, is restored by itself and serves again',
  async (_, at, key) => {
    const bench = await start({ DAYBOOK_DEBUG_SPOIL: `bench/${key}={"balance":900,"moves":0}` });
    const { directory, network, clients, events } = bench;
    const name = `executor-${at + 1}`;
    const all = await connect({ ...network, deadlineMs: 60_000 });
    ends.push(() => all.close({ now: true }));
    const tellers = startTellers(all, 2, '', pauseMs);
    const readers = startReaders(clients, key);
    const probe = startProbe(network.gateways[at] ?? '');
    await sleep(1_000);
    if (key === 'vault299') {
      const file = join(directory, name, 'state/rows/data.mdb');
      await until('the row on the disk', () => spoilOnDisk(file, key), events);
    } else {
      const { executors } = await network.status();
      process.kill(executors[at]?.pid ?? 0, 'SIGUSR2');
    }
    const alarm = (): Told | undefined => events.find(({ text }) => text.includes('ALARM'));
    await until('the alarm', () => alarm() !== undefined, events);
    expect(alarm()?.text).toMatch(new RegExp(`^${name}: .*bench/${key} .*is changed`));
    await until(
      'its return',
      () => events.some(({ text }) => text.includes('serves again')),
      events,
    );
    const returnedMs = performance.now();
    await until(
      'answers of the restored node',
      () => readers.answers.some((one) => one.gateway === at && one.timeMs > returnedMs),
      events,
    );
    await tellers.stop();
    await readers.stop();
    await probe.stop();

    // Whatever was answered before: after the alarm nobody heard anything wrong, from nobody.
    const alarmMs = (alarm()?.timeMs ?? 0) + 100;
    const after = readers.answers.filter(({ timeMs }) => timeMs > alarmMs);
    expect(new Set(after.map(({ balance }) => balance))).toEqual(new Set(['0']));
    expect(new Set(after.map(({ gateway }) => gateway))).toEqual(new Set([0, 1, 2]));
    expect([...probe.codes]).toContain('NODE_DIVERGED');
    expect(events.filter(({ text }) => text.includes('ALARM'))).toHaveLength(1);
    // Nothing that was acknowledged is lost, whoever acknowledged it.
    const others = await connect({
      ...network,
      gateways: network.gateways.filter((_gateway, index) => index !== at),
    });
    expect(await discrepancies(others, tellers.told)).toEqual([]);
    await others.close();

    // The same chain everywhere, and the restored node goes on with it.
    const chains = async (): Promise<unknown[]> =>
      (await network.status()).executors.map(({ status }) => status?.blocks);
    await until(
      'equal chains',
      async () => {
        const [one, ...rest] = (await chains()).map((chain) => JSON.stringify(chain));
        return rest.every((chain) => chain === one);
      },
      events,
    );
    const verified = await runCaptured(directory, [
      'verify',
      'chain',
      name,
      '--trust',
      'identities/msp.json',
      '--json',
    ]);
    expect(verified).toMatchObject({ code: 0, err: '' });

    const [evidence = ''] = evidenceOf(directory, name);
    const kept = join(directory, name, 'repair', evidence);
    expect(readdirSync(kept).sort()).toEqual([
      'differing-rows.json',
      'repaired.json',
      'statements.json',
      'verdict.json',
    ]);
    const differing = JSON.parse(readFileSync(join(kept, 'differing-rows.json'), 'utf8'));
    expect(differing).toEqual([
      expect.objectContaining({
        right: expect.objectContaining({ key: `bench/${key}`, value: '{"balance":0,"moves":0}' }),
      }),
    ]);
    const status = JSON.parse((await runCaptured(directory, ['status', '-d', '.', '--json'])).out);
    expect(status.gateways.map((one: { guard: { state: string } }) => one.guard.state)).toEqual([
      'serving',
      'serving',
      'serving',
    ]);
  },
  400_000,
);

test('a node that differs again after it was restored halts; the others go on', async () => {
  const bench = await start({ DAYBOOK_DEBUG_WRONG_WRITES: 'executor-2/:common1' });
  const { directory, network, events } = bench;
  const all = await connect({ ...network, deadlineMs: 60_000 });
  ends.push(() => all.close({ now: true }));
  const tellers = startTellers(all, 2, '', pauseMs);
  const told = (part: string): boolean => events.some(({ text }) => text.includes(part));
  await until('the first alarm', () => told('ALARM the state of this node is wrong'), events);
  await until('a restored state', () => told('its rows are those of the state root'), events);
  await until('the halt', () => told('ALARM this node HALTS'), events);
  const halted = async (): Promise<{
    reason: string;
    guard: { state: string; evidence: string };
  }> => {
    const status = JSON.parse((await runCaptured(directory, ['status', '-d', '.', '--json'])).out);
    return status.gateways[1];
  };
  // Between the two the process is started again.
  await until(
    'the halt in `status`',
    async () =>
      /^halted: after a repair after \d+ blocks the state root is/.test((await halted()).reason),
    events,
  );
  const statements = JSON.parse(
    readFileSync(join((await halted()).guard.evidence, 'statements.json'), 'utf8'),
  );
  expect(statements.map(({ node }: { node: string }) => node).sort()).toEqual([
    'executor-1',
    'executor-2',
    'executor-3',
  ]);
  expect(existsSync(join((await halted()).guard.evidence, 'own-block.pb'))).toBe(true);
  const answer = await fetch(`${network.gateways[1]}/v1/channels/main/contracts`);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ code: 'NODE_DIVERGED' });
  const before = tellers.told.flatMap(({ acknowledged }) => acknowledged).length;
  await sleep(1_000);
  await tellers.stop();
  expect(tellers.told.flatMap(({ acknowledged }) => acknowledged).length).toBeGreaterThan(before);
  expect((await runCaptured(directory, ['status', '-d', '.'])).out).toContain('halted');
}, 400_000);
