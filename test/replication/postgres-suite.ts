import { afterAll, beforeAll } from 'vitest';
import {
  type PostgresServer,
  startPostgres,
} from '../../src/replication/testing/postgres-server.ts';

/**
 * Starts a PostgreSQL server before the tests of the surrounding `describe`, and stops it behind
 * them. What it returns is called by the tests.
 */
export function postgresSuite(): () => PostgresServer {
  let server: PostgresServer | undefined;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    await server?.close();
  }, 30_000);
  return () => {
    if (server === undefined) throw new Error('PostgreSQL runs only during the tests');
    return server;
  };
}
