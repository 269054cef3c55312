import pg from 'pg';

/** PostgreSQL's own logical replication, between two databases of one server. */
export interface NativeReplication {
  /**
   * Changes the publisher while the subscription rests, then lets it go.
   *
   * @returns milliseconds from then until the subscriber has everything.
   */
  run(change: (publisher: pg.Client) => Promise<void>): Promise<number>;
  close(): Promise<void>;
}

/** Publishes the table `item (id, value, note)` from one database to the other. */
export async function openNative(
  publisherUrl: string,
  subscriberUrl: string,
): Promise<NativeReplication> {
  const publisher = await client(publisherUrl);
  const subscriber = await client(subscriberUrl);
  const create = 'CREATE TABLE item (id text PRIMARY KEY, value integer, note text)';
  await publisher.query(`${create}; CREATE PUBLICATION bench FOR TABLE item`);
  await publisher.query("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')");
  await subscriber.query(create);
  await subscriber.query(
    `CREATE SUBSCRIPTION bench CONNECTION '${publisherUrl}' PUBLICATION bench
     WITH (create_slot = false, slot_name = 'bench', enabled = false, copy_data = false)`,
  );
  let rounds = 0;
  return {
    run: async (change) => {
      await change(publisher);
      const marker = `done-${++rounds}`;
      await publisher.query(`INSERT INTO item VALUES ('${marker}', 0, '')`);
      await publisher.query('CHECKPOINT');
      const started = performance.now();
      await subscriber.query('ALTER SUBSCRIPTION bench ENABLE');
      for (;;) {
        const found = await subscriber.query('SELECT 1 FROM item WHERE id = $1', [marker]);
        if (found.rowCount === 1) break;
        await pause(5);
      }
      const elapsedMs = performance.now() - started;
      await subscriber.query('ALTER SUBSCRIPTION bench DISABLE');
      await pause(500);
      return elapsedMs;
    },
    close: async () => {
      await subscriber.query('ALTER SUBSCRIPTION bench SET (slot_name = NONE)');
      await subscriber.query('DROP SUBSCRIPTION bench');
      await publisher.query("SELECT pg_drop_replication_slot('bench')");
      await Promise.all([publisher.end(), subscriber.end()]);
    },
  };
}

async function client(url: string): Promise<pg.Client> {
  const made = new pg.Client(url);
  await made.connect();
  return made;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
