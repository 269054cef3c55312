import {
  admit,
  beginCopy,
  compact,
  copyPage,
  endCopy,
  found,
  highWaterMarks,
  join,
  MemoryStore,
  pull,
  receive,
  requestAcknowledgement,
  save,
  writeCopy,
} from '../src/replication/federation/core/index.ts';
import {
  element,
  parseXml,
  recordElement,
  recordOf,
  replicationXml,
} from '../src/replication/federation/uddi/index.ts';
import { federationOverLedgers, type LedgerFederationResult } from './federation-ledgers.ts';

export interface FederationBenchOptions {
  /** Entities of the registry. */
  readonly entities: number;
  /** Versions of each entity of a tenth of them. */
  readonly versions: number;
  /** Entities of the registries on ledgers; 0: these are left out. */
  readonly ledgerEntities: number;
}

export const federationBenchDefaults: FederationBenchOptions = {
  entities: 100_000,
  versions: 10,
  ledgerEntities: 10_000,
};

export interface FederationBenchResult
  extends FederationBenchOptions,
    Partial<LedgerFederationResult> {
  /** Commits of publishers, changes per second, store in memory. */
  readonly publishedPerSecond: number;
  /** Change records pulled and applied by a second node, per second. */
  readonly recordsPerSecond: number;
  /** Change records written as XML and read again, per second. */
  readonly xmlRecordsPerSecond: number;
  /** A third node that joins by a full copy, ms. */
  readonly joinMs: number;
  /** Journal records before compaction to those that still say something after it. */
  readonly compactionRatio: number;
  /** Journal rows left when all have acknowledged. */
  readonly rowsAfterAcknowledgement: number;
}

const [a, b, late] = ['uddi:a.example:node', 'uddi:b.example:node', 'uddi:late.example:node'];
const pageRecords = 1_000;

/**
 * What federation costs: the protocol on stores in memory, without network and ledger; and through
 * registry nodes on ledgers, over TLS.
 */
export async function federationBench(
  options: FederationBenchOptions,
  progress: (text: string) => void = () => undefined,
): Promise<FederationBenchResult> {
  const [atA, atB, atLate] = [new MemoryStore(), new MemoryStore(), new MemoryStore()];
  atA.run(found(a));
  atA.run(admit(b));
  atB.run(join(b, [a]));
  let published = 0;
  const publish = (at: number, version: number): void => {
    const key = `uddi:a.example:e${at}`;
    const content = element('businessEntity', {
      attributes: { businessKey: key },
      children: [
        element('name', { text: `Business ${at}` }),
        element('description', { text: `Version ${version} of what it is about` }),
      ],
    });
    atA.run(save({ key, kind: 'business', publisher: 'ann', content }, published++));
  };
  const publishMs = measure(() => {
    for (let at = 0; at < options.entities; at++) publish(at, 1);
    for (let version = 2; version <= options.versions; version++) {
      for (let at = 0; at < options.entities / 10; at++) publish(at, version);
    }
  });
  let received = 0;
  const pullMs = measure(() => {
    received = drain(atB, atA);
  });
  const page = atA.run(pull({ [a]: 2 }, pageRecords));
  if (page.type !== 'records') throw new Error('the journal is whole');
  const xmlMs = measure(() => {
    const text = replicationXml(
      element('changeRecords', { children: page.records.map(recordElement) }),
    );
    parseXml(text).children.map(recordOf);
  });
  const joinMs = measure(() => {
    atA.run(admit(late));
    atLate.run(join(late, [a]));
    const marks = atA.run(highWaterMarks());
    while (!atLate.run(beginCopy(marks, pageRecords)));
    for (let after: string | undefined, more = true; more; ) {
      const copied = atA.run(copyPage(pageRecords, after));
      atLate.run(writeCopy(copied.rows));
      after = copied.next;
      more = after !== undefined;
    }
    atLate.run(endCopy(0));
  });
  // One member is away, so nothing can be dropped; the others have told that they have it all.
  atA.run(requestAcknowledgement());
  drain(atB, atA);
  drain(atA, atB);
  const before = journalRows(atA).total;
  compactAll(atA);
  const { saying } = journalRows(atA);
  atA.run(requestAcknowledgement());
  for (const node of [atB, atLate]) drain(node, atA);
  for (const node of [atB, atLate]) drain(atA, node);
  compactAll(atA);
  const overLedgers =
    options.ledgerEntities === 0
      ? {}
      : await federationOverLedgers(options.ledgerEntities, progress);
  return {
    ...options,
    ...overLedgers,
    publishedPerSecond: perSecond(published, publishMs),
    recordsPerSecond: perSecond(received, pullMs),
    xmlRecordsPerSecond: perSecond(page.records.length, xmlMs),
    joinMs,
    compactionRatio: before / saying,
    rowsAfterAcknowledgement: journalRows(atA).total,
  };
}

function drain(to: MemoryStore, from: MemoryStore): number {
  for (let taken = 0; ; ) {
    const answer = from.run(pull(to.run(highWaterMarks()), pageRecords));
    if (answer.type !== 'records') throw new Error('the journal is whole');
    taken += to.run(receive(answer.records, 0)).taken;
    if (!answer.more) return taken;
  }
}

function compactAll(store: MemoryStore): void {
  for (let from: number | undefined = 0; from !== undefined; ) {
    from = nextAfter(store, from);
  }
}

function nextAfter(store: MemoryStore, from: number): number | undefined {
  return store.run(compact(0, 0, pageRecords, from)).next;
}

function journalRows(store: MemoryStore): { readonly total: number; readonly saying: number } {
  let total = 0;
  let saying = 0;
  for (const [key, text] of store.entries()) {
    if (!key.startsWith('journal|')) continue;
    total++;
    if (!text.includes('"type":"null"')) saying++;
  }
  return { total, saying };
}

function measure(run: () => void): number {
  const started = performance.now();
  run();
  return performance.now() - started;
}

function perSecond(count: number, ms: number): number {
  return Math.round((count / ms) * 1000);
}
