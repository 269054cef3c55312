import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noPostgres, startPostgres } from '../../src/replication/testing/postgres-server.ts';
import { readCatalog, sampleCatalog } from './catalog.ts';
import { runCatalog } from './run.ts';

const missing = noPostgres();
if (missing !== undefined) {
  process.stderr.write(`this example needs a PostgreSQL server’s programs: ${missing}\n`);
  process.exit(2);
}
const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/dist\/$/, '');
const folder =
  process.argv[2] ?? join(process.env.DAYBOOK_DATA ?? join(root, '../shared/data'), 'catalog');
const data = await readCatalog(folder);
const say = (text: string): void => void process.stdout.write(`${text}\n`);
if (data === undefined) say('a made-up catalogue, since no folder with another one is given');
const directory = mkdtempSync(join(tmpdir(), 'daybook-catalog-'));
const postgres = await startPostgres();
try {
  const result = await runCatalog(postgres, directory, data ?? sampleCatalog(500), 300, say);
  say(JSON.stringify(result));
  process.exitCode = result.differences.length === 0 ? 0 : 1;
} finally {
  await postgres.close();
  rmSync(directory, { recursive: true, force: true });
}
