import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { inlineProcesses } from '../executor/testing/inline-processes.ts';
import { realIo } from '../io/index.ts';
import { openEmbeddedLog, type SharedLog } from '../log/index.ts';
import { asAddress, channelConfigDefaults, encodeEntry } from '../model/index.ts';
import { MemoryStore } from '../state/index.ts';
import { DevelopmentCa } from './dev-ca.ts';
import { startExecutorNode } from './executor-node.ts';
import { foundChannel } from './found-channel.ts';

const io = realIo();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-node-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function foundedLog(): Promise<SharedLog> {
  const log = await openEmbeddedLog({ io, directory: join(directory, 'log') });
  const { root } = await DevelopmentCa.create('Org1', io.clock.nowMs());
  const names = ['Org1'];
  const config = {
    ...channelConfigDefaults,
    channel: 'bank',
    msps: [{ mspId: 'Org1', rootCertificates: [root.certificate] }],
    access: { submit: names, deploy: names, administer: names },
  };
  await foundChannel(log, config, 'founder', io.clock.nowMs());
  return log;
}

test('a node that falls behind what the log still holds asks to be started again', async () => {
  const log = await foundedLog();
  let trim: () => void = () => undefined;
  const trimmed = new Promise<void>((resolve) => {
    trim = resolve;
  });
  const losing: SharedLog = {
    tail: () => log.tail(),
    epoch: () => log.epoch(),
    start: () => log.start(),
    seal: (epoch) => log.seal(epoch),
    trim: (before) => log.trim(before),
    fill: (address) => log.fill(address),
    write: (token, bytes) => log.write(token, bytes),
    read: (address) => log.read(address),
    follow: async function* follow(from) {
      if (from === 0) yield [await log.read(from)];
      await trimmed;
      throw new DaybookError('LOG_TRIMMED', 'it begins later');
    },
    close: () => log.close(),
  };
  let told: () => void = () => undefined;
  const restarted = new Promise<void>((resolve) => {
    told = resolve;
  });
  const node = await startExecutorNode({
    io: { ...io, processes: inlineProcesses(io, new MemoryStore(), {}) },
    name: 'late',
    directory: join(directory, 'late'),
    channel: 'bank',
    log: losing,
    sequencer: undefined,
    host: '127.0.0.1',
    port: 0,
    onDiverged: told,
    onEvent: () => undefined,
  });
  trim();
  await restarted;
  expect(node.status().alarm).toMatch(/it begins later/);
  await node.close();
  await log.close();
});

test('a node that cannot save its state says so, and when it can again', async () => {
  const log = await foundedLog();
  let availableBytes = 1_000;
  const events: string[] = [];
  const told = (pattern: RegExp): Promise<void> =>
    vi.waitFor(() => expect(events).toContainEqual(expect.stringMatching(pattern)), 20_000);
  const starting = startExecutorNode({
    io: {
      ...io,
      disk: { ...io.disk, availableBytes: async () => availableBytes },
      processes: inlineProcesses(io, new MemoryStore(), {}),
    },
    name: 'full',
    directory: join(directory, 'full'),
    channel: 'bank',
    log,
    sequencer: undefined,
    host: '127.0.0.1',
    port: 0,
    onEvent: (text) => events.push(text),
  });
  // It does not serve before what it applied is saved.
  await told(/^ALARM the state cannot be saved.* needs \d+ MiB of free space, and has 1 MiB/);
  availableBytes = 1e9;
  const node = await starting;
  await told(/^the state is saved again/);
  const health = async (): Promise<unknown> => (await fetch(`${node.url}/health`)).json();
  expect(await health()).not.toHaveProperty('channels.0.unsaved');

  availableBytes = 1_000;
  const tick = encodeEntry({ kind: 'tick', writer: 'test', timestampMs: io.clock.nowMs() });
  await log.write({ epoch: await log.epoch(), address: asAddress(1) }, tick);
  await vi.waitFor(
    async () =>
      expect(await health()).toMatchObject({
        channels: [{ ready: true, unsaved: expect.stringMatching(/MiB of free space/) }],
      }),
    20_000,
  );
  availableBytes = 1e9;
  await node.close();
  await log.close();
}, 60_000);
