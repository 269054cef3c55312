import { limits } from '../../base/index.ts';

/*
 * Exact decimal arithmetic for update operators. A number is an integer that JSON and JavaScript
 * hold exactly, or a text like "-12.50". Everything else has no exact value and is refused.
 */

/** `units` × 10^-`scale`. */
export interface Decimal {
  readonly units: bigint;
  readonly scale: number;
}

const pattern = /^-?(0|[1-9]\d*)(\.\d+)?$/;

/** The exact value of an integer or a decimal text; `undefined` when it has none. */
export function decimalOf(value: unknown): Decimal | undefined {
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) ? { units: BigInt(value), scale: 0 } : undefined;
  }
  if (typeof value !== 'string' || value.length > limits.bulkDigitsMax || !pattern.test(value)) {
    return undefined;
  }
  const point = value.indexOf('.');
  if (point === -1) return { units: BigInt(value), scale: 0 };
  const scale = value.length - point - 1;
  return { units: BigInt(value.slice(0, point) + value.slice(point + 1)), scale };
}

/** The exact sum. */
export function addDecimals(left: Decimal, right: Decimal): Decimal {
  const scale = Math.max(left.scale, right.scale);
  return { units: unitsAt(left, scale) + unitsAt(right, scale), scale };
}

/** The product, without zeros at its end that no factor's own digits ask for. */
export function multiplyDecimals(left: Decimal, right: Decimal): Decimal {
  let units = left.units * right.units;
  let scale = left.scale + right.scale;
  const kept = Math.max(left.scale, right.scale);
  while (scale > kept && units % 10n === 0n) {
    units /= 10n;
    scale--;
  }
  return { units, scale };
}

/** Negative, zero or positive, as `left` is less than, equal to or greater than `right`. */
export function compareDecimals(left: Decimal, right: Decimal): number {
  const scale = Math.max(left.scale, right.scale);
  const [a, b] = [unitsAt(left, scale), unitsAt(right, scale)];
  return a < b ? -1 : a > b ? 1 : 0;
}

/** As text, with `scale` digits behind the point; `undefined` over `bulkDigitsMax`. */
export function decimalText({ units, scale }: Decimal): string | undefined {
  const negative = units < 0n;
  const digits = (negative ? -units : units).toString().padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  const text = `${negative ? '-' : ''}${whole}${scale === 0 ? '' : `.${digits.slice(-scale)}`}`;
  return text.length > limits.bulkDigitsMax ? undefined : text;
}

/** As a JSON integer; `undefined` when it is none, or not exact as one. */
export function decimalInteger({ units, scale }: Decimal): number | undefined {
  const one = 10n ** BigInt(scale);
  if (units % one !== 0n) return undefined;
  const value = Number(units / one);
  return Number.isSafeInteger(value) ? value : undefined;
}

function unitsAt({ units, scale }: Decimal, wanted: number): bigint {
  return scale === wanted ? units : units * 10n ** BigInt(wanted - scale);
}
