import { dirname } from 'node:path';
import { type Logger, pino } from 'pino';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';

/**
 * The log of a network's life, one JSON object a line.
 *
 * @param path - absolute; `undefined`: stderr.
 * @throws {DaybookError} `IO_FAILED`
 */
export async function openNodeLog(
  { disk }: Pick<Io, 'disk'>,
  path: string | undefined,
): Promise<Logger> {
  if (path !== undefined) await disk.makeDirectory(dirname(path));
  return pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination(path ?? 2));
}

function destination(dest: string | number): ReturnType<typeof pino.destination> {
  try {
    return pino.destination({ dest, sync: true });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new DaybookError('IO_FAILED', message, { details: { path: dest, cause: code }, cause });
  }
}
