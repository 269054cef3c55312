import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Administration } from '../examples/registry/administration.ts';
import { connect } from '../src/client/index.ts';
import { freePort } from '../src/io/testing/free-ports.ts';

/** What federation costs through ledgers and TLS; see {@link federationOverLedgers}. */
export interface LedgerFederationResult {
  /** Businesses saved at the first ledger per second, 200 calls at a time. */
  readonly ledgerPublishedPerSecond: number;
  /** Change records that the second ledger pulled over TLS, checked and committed per second. */
  readonly ledgerRecordsPerSecond: number;
  /** The third ledger, from its start until it has a full copy of the first, ms. */
  readonly ledgerJoinMs: number;
}

const callsAtATime = 200;

/**
 * Three registry nodes on ledgers of their own on this machine: one publishes, the second pulls what
 * it has, the third takes a full copy.
 */
export async function federationOverLedgers(
  entities: number,
  progress: (text: string) => void,
): Promise<LedgerFederationResult> {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-federation-bench-'));
  const all: Administration[] = [];
  const quiet = (): void => undefined;
  try {
    for (const name of ['a', 'b', 'c']) {
      const node = `uddi:${name}.example:node`;
      all.push(new Administration(node, join(directory, name), await freePort()));
    }
    const [a, b, c] = all as [Administration, Administration, Administration];
    await a.init('ann');
    await b.init('ann', [a.node]);
    await c.init('ann', [a.node]);
    for (const one of all) for (const other of all) if (one !== other) await one.know(other);
    await a.start(quiet);
    await a.order('admit', b.node);
    await b.start(quiet);
    await until(async () => (await marksAt(b))[a.node] !== undefined);
    await b.stopRegistry();
    const publishMs = await publish(a, entities);
    progress(`${entities} published`);
    const wanted = (await marksAt(a))[a.node] ?? 0;
    const before = (await marksAt(b))[a.node] ?? 0;
    await b.start(quiet);
    let first = before;
    // Counted from the first records on: starting the node is not what is measured.
    await until(async () => {
      first = (await marksAt(b))[a.node] ?? 0;
      return first > before;
    });
    const pullMs = await timed(() => until(async () => (await marksAt(b))[a.node] === wanted));
    progress(`pulled; ${wanted - first} of them measured`);
    // What all members have is dropped, so the third cannot have it from the journal.
    await a.order('requestAcknowledgement');
    await until(async () => {
      const { dropped } = JSON.parse(await a.order('compact', '0', '1000', '0')) as {
        dropped: number;
      };
      return dropped > 0;
    });
    await a.order('admit', c.node);
    const last = (await marksAt(a))[a.node] ?? 0;
    const joinMs = await timed(async () => {
      await c.start(quiet);
      await until(async () => ((await marksAt(c))[a.node] ?? 0) >= last);
    });
    return {
      ledgerPublishedPerSecond: Math.round((entities / publishMs) * 1000),
      ledgerRecordsPerSecond: Math.round(((wanted - first) / pullMs) * 1000),
      ledgerJoinMs: joinMs,
    };
  } finally {
    await Promise.all(all.map((one) => one.stop()));
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function publish(at: Administration, entities: number): Promise<number> {
  const client = await connect(at.connection());
  const text = (number: number): string => {
    const name = { name: 'name', attributes: {}, children: [], text: `Business ${number}` };
    const attributes = { businessKey: `uddi:a.example:e${number}` };
    const entity = { name: 'businessEntity', attributes, children: [name], text: '' };
    return JSON.stringify({ name: 'save_business', attributes: {}, children: [entity], text: '' });
  };
  try {
    return await timed(async () => {
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < entities) await client.submit('registry', 'publish', [text(next++)]);
      };
      await Promise.all(Array.from({ length: callsAtATime }, work));
    });
  } finally {
    await client.close();
  }
}

async function marksAt(one: Administration): Promise<Record<string, number>> {
  return JSON.parse(await one.read('highWaterMarks')) as Record<string, number>;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await sleep(20);
}
