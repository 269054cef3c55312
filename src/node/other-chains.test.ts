import { expect, test } from 'vitest';
import { packBlocks } from '../blocks/index.ts';
import { realIo, rpcPeer } from '../io/index.ts';
import { asAddress, encodeEntry, positionOf } from '../model/index.ts';
import {
  configEntry,
  deployRecord,
  entryOfRecords,
  testConfig,
  testMember,
} from '../replica/testing/ledger.ts';
import { MemoryLog } from '../replica/testing/memory-log.ts';
import type { Member } from './members.ts';
import { otherChains } from './other-chains.ts';
import { type NodeOrders, servePrivately } from './private-service.ts';

test('others are asked for blocks up to the last record, not for ticks and fills behind it', async () => {
  const timestampMs = 1_000;
  const { msp, signer } = await testMember('Org1');
  const log = new MemoryLog();
  const chains = otherChains(realIo(), log, () => []);
  const end = (before: number): Promise<number> => chains.recordsEnd(asAddress(before));
  const tick = (): void => {
    log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs }));
  };
  expect(await end(0)).toBe(0);
  log.append(configEntry(testConfig([msp], {}), timestampMs));
  expect(await end(1)).toBe(positionOf(asAddress(0), 1));
  const records = ['one', 'two'].map((name, at) => deployRecord(name, '1', at + 1, timestampMs));
  log.append(entryOfRecords(signer, records, timestampMs));
  tick();
  await log.fill(asAddress(3));
  tick();
  expect(await end(5)).toBe(positionOf(asAddress(1), 2));
  expect(await end(2)).toBe(positionOf(asAddress(1), 2));
  // What is trimmed is in blocks; nobody knows how far back the last record is.
  await log.trim(asAddress(2));
  expect(await end(5)).toBe(positionOf(asAddress(2), 0));
  // It was trimmed further meanwhile.
  await log.trim(asAddress(5));
  expect(await end(4)).toBe(positionOf(asAddress(4), 0));
});

test('whose blocks did not hold is asked again, after a while', async () => {
  const io = realIo();
  let nowMs = 0;
  const clock = { ...io.clock, monotonicMs: () => nowMs };
  const serving = async (name: string, held: number): Promise<Member> => {
    const blocks = async (): Promise<Uint8Array> => packBlocks([Buffer.from(name)]);
    const { address } = await io.network.listen('127.0.0.1:0', (connection) =>
      servePrivately(rpcPeer(connection), { blocks } as unknown as NodeOrders, undefined),
    );
    const member = { name, address, held, channel: '', gateway: '', id: name };
    return { ...member, roles: ['executor'], draining: false };
  };
  const members = [await serving('one', 9), await serving('two', 8)];
  const chains = otherChains({ ...io, clock }, new MemoryLog(), () => members);
  const next = async (): Promise<string> => (await chains.fetch(0)).join();
  expect(chains.distrustLast()).toBeUndefined();
  expect(await next()).toBe('one');
  expect(chains.distrustLast()).toBe('one');
  expect(await next()).toBe('two');
  expect(chains.distrustLast()).toBe('two');
  // Nobody is left.
  expect(await next()).toBe('');
  nowMs = 10_000;
  expect(await next()).toBe('one');
});
