/** Numbers that a seed fixes: all chance in a simulated world comes from here. */
export interface Chance {
  /** A number in [0, 1). */
  number(): number;
  /** An integer in [0, below). */
  below(below: number): number;
  /** An integer in [from, to], both included. */
  between(from: number, to: number): number;
  /** True with the given probability. */
  happens(probability: number): boolean;
  pick<T>(choices: readonly T[]): T;
}

/** Small fast counter generator (`sfc32`), seeded by a 32-bit number. */
export function chanceOf(seed: number): Chance {
  let a = seed | 0;
  let b = (seed ^ 0x9e37_79b9) | 0;
  let c = 0x243f_6a88;
  let counter = 1;
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return sum >>> 0;
  };
  // The first outputs of near seeds resemble each other.
  for (let round = 0; round < 16; round++) next();
  const number = (): number => next() / 2 ** 32;
  const below = (bound: number): number => Math.floor(number() * bound);
  return {
    number,
    below,
    between: (from, to) => from + below(to - from + 1),
    happens: (probability) => number() < probability,
    pick: <T>(choices: readonly T[]): T => choices[below(choices.length)] as T,
  };
}
