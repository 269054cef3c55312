import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realIo } from '../../src/io/index.ts';
import { openEmbeddedLog } from '../../src/log/index.ts';
import { type LogStorage, sharedLogConformance } from './shared-log.ts';

const io = realIo();

function embedded(segmentBytes: number, recentBytesMax: number) {
  return async (): Promise<LogStorage> => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-log-'));
    return {
      open: () =>
        openEmbeddedLog({
          io,
          directory,
          segmentBytesMin: segmentBytes,
          segmentBytesMax: segmentBytes,
          recentBytesMax,
        }),
      destroy: async () => rmSync(directory, { recursive: true, force: true }),
    };
  };
}

sharedLogConformance('embedded', embedded(1024 * 1024, 1024 * 1024));
// Segments change all the time, and everything is read from the disk.
sharedLogConformance('embedded, tiny segments', embedded(8 * 1024, 0));
