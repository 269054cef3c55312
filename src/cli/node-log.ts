import { join } from 'node:path';
import { type Logger, pino } from 'pino';

/**
 * The log of a network's life, one JSON object a line. `-` writes to stderr; otherwise a file,
 * `daybook.log` in the data directory unless told otherwise.
 */
export function openNodeLog(directory: string, file: string | undefined): Logger {
  const destination = file === '-' ? 2 : (file ?? join(directory, 'daybook.log'));
  return pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: destination, mkdir: true, sync: true }),
  );
}
