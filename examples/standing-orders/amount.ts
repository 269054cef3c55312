import { DaybookError } from '../../src/base/index.ts';

/*
 * Money is a bigint of millionths: exact, and fine enough for fractions of a cent. Decimal strings
 * are how it travels: to the contract, in files, in output.
 */

const decimals = 6;
const unit = 10n ** BigInt(decimals);

/**
 * Reads a decimal with up to six digits behind the point, e.g. `245.20`, `0.0025` or `.80`; not
 * negative.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function parseAmount(text: string): bigint {
  const match = /^(?=\.?\d)(\d{0,18})(?:\.(\d{1,6}))?$/.exec(text);
  if (match === null) {
    throw new DaybookError('MALFORMED', `not an amount: ${JSON.stringify(text)}`, {
      details: { what: 'amount' },
    });
  }
  const [, whole = '', fraction = ''] = match;
  return BigInt(whole) * unit + BigInt(fraction.padEnd(decimals, '0'));
}

/** At least two digits behind the point, and no more than are needed: `245.20`, `0.0025`. */
export function formatAmount(amount: bigint): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(decimals + 1, '0');
  const fraction = digits.slice(-decimals).replace(/0{1,4}$/, '');
  return `${amount < 0n ? '-' : ''}${digits.slice(0, -decimals)}.${fraction}`;
}
