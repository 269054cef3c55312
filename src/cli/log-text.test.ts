import { expect, test } from 'vitest';
import { entryLines, recordLine } from './log-text.ts';

const record = {
  position: 8192,
  txId: 'ab'.repeat(32),
  verdict: 'valid',
  valid: true,
  type: 'call',
  contract: 'bank',
  function: 'transfer',
  args: ['alice', 'bob', '12.50'],
  sets: [],
};

test('a call is one readable line', () => {
  expect(recordLine(record)).toBe('bank.transfer(alice, bob, 12.50)');
  expect(recordLine({ ...record, args: [{ base64: '/w==' }] })).toBe(
    'bank.transfer("base64:/w==")',
  );
});

test('control characters of an argument are quoted, long ones cut', () => {
  expect(recordLine({ ...record, args: ['\u001b[2J'] })).toBe('bank.transfer("\\u001b[2J")');
  expect(recordLine({ ...record, args: ['x'.repeat(100)] })).toBe(
    `bank.transfer(${'x'.repeat(40)}…)`,
  );
});

test('an entry tells what it is and what became of its records', () => {
  const entry = { address: 2, kind: 'records', logTimeMs: 0, writer: 'executor-1' };
  const lines = entryLines({
    ...entry,
    records: [record, { ...record, valid: false, verdict: 'readConflict' }],
  });
  expect(lines).toEqual([
    '2  1970-01-01T00:00:00.000Z  2 records  by executor-1',
    '  abababababab  valid  bank.transfer(alice, bob, 12.50)',
    '  abababababab  readConflict  bank.transfer(alice, bob, 12.50)',
  ]);
  expect(entryLines({ address: 3, kind: 'fill', logTimeMs: 0 })).toEqual([
    '3  1970-01-01T00:00:00.000Z  fill',
  ]);
});

test('a long entry is cut', () => {
  const records = Array.from({ length: 12 }, () => record);
  const lines = entryLines({ address: 2, kind: 'records', logTimeMs: 0, records });
  expect(lines).toHaveLength(12);
  expect(lines.at(-1)).toBe('  … and 2 more; --json shows all');
});
