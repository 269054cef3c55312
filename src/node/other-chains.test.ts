import { expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { asAddress, encodeEntry, positionOf } from '../model/index.ts';
import {
  configEntry,
  deployRecord,
  entryOfRecords,
  testConfig,
  testMember,
} from '../replica/testing/ledger.ts';
import { MemoryLog } from '../replica/testing/memory-log.ts';
import { otherChains } from './other-chains.ts';

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
