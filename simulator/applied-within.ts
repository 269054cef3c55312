import type { Io } from '../src/io/index.ts';
import { asPosition } from '../src/model/index.ts';
import type { Replica } from '../src/replica/index.ts';

/** Whether a replica has applied a record within so long; it has not when it is closed meanwhile. */
export async function appliedWithin(
  replica: Replica,
  { clock }: Pick<Io, 'clock'>,
  position: number,
  waitMs: number,
): Promise<boolean> {
  try {
    await replica.waitFor(asPosition(position + 1), clock.monotonicMs() + waitMs);
    return true;
  } catch {
    return false;
  }
}
