'use strict';

/** Digits after the point: amounts down to fractions of a cent. */
const scale = 6;
const unit = 10n ** BigInt(scale);

/** A decimal string as an integer of millionths. */
function parseAmount(text) {
  const match = /^(-?)(\d{1,30})(?:\.(\d{1,6}))?$/.exec(text);
  if (match === null) throw new Error(`'${text}' is not an amount`);
  const [, sign, whole, fraction = ''] = match;
  const value = BigInt(whole) * unit + BigInt(fraction.padEnd(scale, '0'));
  return sign === '-' ? -value : value;
}

/** The shortest decimal string of an integer of millionths. */
function formatAmount(value) {
  const sign = value < 0n ? '-' : '';
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, '0');
  const fraction = digits.slice(-scale).replace(/0+$/, '');
  return sign + digits.slice(0, -scale) + (fraction === '' ? '' : `.${fraction}`);
}

module.exports = { parseAmount, formatAmount };
