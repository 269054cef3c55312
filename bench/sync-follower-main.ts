import { realIo } from '../src/io/index.ts';
import {
  type Follower,
  httpFeed,
  jsonOf,
  postgresSink,
  type Sink,
  startFollower,
  type TableDeclaration,
} from '../src/replication/index.ts';
import type { Applied, Order, StartOrder } from './sync-follower.ts';

/* One follower in a process of its own, as `daybook follow` would be; the bench gives orders. */

const io = realIo();
const table: TableDeclaration = {
  name: 'item',
  columns: { id: 'text', value: 'integer', note: 'text' },
  primaryKey: ['id'],
};
let follower: Follower | undefined;
let feed: ReturnType<typeof httpFeed> | undefined;
let startedMs = 0;
const lagsMs: number[] = [];
let onApplied: () => void = () => undefined;

/** The sink itself, with a watch on its commits. */
function timed(sink: Sink): Sink {
  return {
    open: () => sink.open(),
    tryOut: (...args) => sink.tryOut(...args),
    fill: (...args) => sink.fill(...args),
    readParked: () => sink.readParked(),
    unpark: (...args) => sink.unpark(...args),
    close: () => sink.close(),
    apply: async (from, batch, at) => {
      await sink.apply(from, batch, at);
      const nowMs = Date.now();
      for (const { change } of batch.changes) lagsMs.push(nowMs - change.timeMs);
      setImmediate(() => onApplied());
    },
  };
}

function start({ name, database, gateways, channel }: StartOrder): object {
  startedMs = performance.now();
  lagsMs.length = 0;
  feed ??= httpFeed({ io, gateways, channel });
  follower = startFollower({
    io,
    name,
    feed,
    sink: timed(postgresSink({ follower: name, connection: database, tables: [table] })),
    subscription: [{ contract: 'bench', prefix: 'i' }],
    tables: [table],
    processor: (change) => {
      const row = jsonOf<{ id: string; value: number; note: string }>(change);
      return row === undefined
        ? [{ op: 'delete', table: 'item', key: { id: change.key } }]
        : [{ op: 'upsert', table: 'item', row: { ...row } }];
    },
    onEvent: (text) => process.stderr.write(`sync: ${name}: ${text}\n`),
  });
  return {};
}

function until(position: number): Promise<object> {
  return new Promise((resolve) => {
    const check = (): void => {
      const at = follower?.position;
      if (at !== undefined && at > position) {
        clearInterval(timer);
        onApplied = () => undefined;
        resolve({ elapsedMs: performance.now() - startedMs });
      }
    };
    // A page without changes moves the position, too.
    const timer = setInterval(check, 10);
    onApplied = check;
    check();
  });
}

async function stop(): Promise<Applied> {
  await follower?.stop();
  return { changes: follower?.changes ?? 0, lagsMs };
}

async function obey(order: Order): Promise<object> {
  switch (order.type) {
    case 'start':
      return start(order);
    case 'until':
      return until(order.position);
    case 'stop':
      return stop();
  }
}

process.on('message', (order: Order) => {
  void obey(order).then(
    (answer) => process.send?.(answer),
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
});
// The bench is gone.
process.on('disconnect', () => process.exit());
