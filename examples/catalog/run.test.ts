import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { noPostgres, startPostgres } from '../../src/replication/testing/postgres-server.ts';
import { sampleCatalog } from './catalog.ts';
import { runCatalog } from './run.ts';

const missing = noPostgres();
if (missing !== undefined) console.warn(`the catalogue example is skipped: ${missing}`);

it.skipIf(missing !== undefined)(
  'ends with all systems equal, though one was killed',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-catalog-'));
    const postgres = await startPostgres();
    try {
      const said: string[] = [];
      const result = await runCatalog(postgres, directory, sampleCatalog(120), 60, (text) =>
        said.push(text),
      );
      expect(result.differences).toEqual([]);
      expect(result.rowsTakenOver).toBe(120 + 120 * 5 + 40);
      expect(said.join()).toContain('killed');
    } finally {
      await postgres.close();
      rmSync(directory, { recursive: true, force: true });
    }
  },
  120_000,
);
