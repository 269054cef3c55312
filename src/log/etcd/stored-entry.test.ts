import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDaybookError } from '../../base/index.ts';
import { asAddress } from '../../model/index.ts';
import { checkStored, decodeStored, encodeSplitHead, encodeStored } from './stored-entry.ts';

const anyEpoch = fc.nat(Number.MAX_SAFE_INTEGER);
const anyAddress = fc.nat(Number.MAX_SAFE_INTEGER).map(asAddress);
const damagedError = (call: () => unknown): boolean => {
  try {
    call();
    return false;
  } catch (error) {
    return isDaybookError(error, 'LOG_DAMAGED');
  }
};

test('values read back as they were stored', () => {
  fc.assert(
    fc.property(anyAddress, anyEpoch, fc.uint8Array(), (address, epoch, bytes) => {
      const data = decodeStored(address, encodeStored(address, 'data', epoch, bytes));
      expect(data).toMatchObject({ address, kind: 'data', epoch, split: undefined });
      expect(new Uint8Array(data.bytes)).toEqual(bytes);
      const id = 'abcdefabcdefabcdefabcdef';
      const value = encodeSplitHead(address, epoch, bytes, { parts: 3, id });
      const head = decodeStored(address, value);
      expect(head.split).toEqual({ length: bytes.length, parts: 3, id });
      checkStored(head, bytes);
    }),
  );
});

test('any changed bit, and a value at a wrong address, is reported', () => {
  fc.assert(
    fc.property(
      anyAddress,
      fc.uint8Array({ minLength: 1 }),
      fc.nat(),
      fc.nat(7),
      (address, bytes, place, bit) => {
        const value = encodeStored(address, 'data', 7, bytes);
        const damaged = Buffer.from(value);
        const at = place % damaged.length;
        damaged[at] = (damaged[at] as number) ^ (1 << bit);
        // A head keeps its checksum until its parts are read.
        const split = at === 1 && damaged[1] === 2;
        if (!split) expect(damagedError(() => decodeStored(address, damaged))).toBe(true);
        expect(
          damagedError(() => decodeStored(asAddress(address === 0 ? 1 : address - 1), value)),
        ).toBe(true);
        expect(damagedError(() => decodeStored(address, value.subarray(0, 13)))).toBe(true);
      },
    ),
  );
});
