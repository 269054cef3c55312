import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { type Cluster, type ClusterOptions, startCluster } from './cluster.ts';

/** What the tests of one `describe` share; there while they run. */
export interface EtcdSuite {
  readonly etcd: Cluster;
  /** A temporary directory. */
  readonly directory: string;
}

/** Starts etcd before the tests of the surrounding `describe`, and clears up behind them. */
export function etcdSuite(options: ClusterOptions = {}): EtcdSuite {
  let etcd: Cluster | undefined;
  let directory = '';
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'daybook-etcd-suite-'));
    etcd = await startCluster(options);
    await etcd.leader();
  }, 30_000);
  afterAll(async () => {
    await etcd?.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    get etcd(): Cluster {
      if (etcd === undefined) throw new Error('etcd runs only during the tests');
      return etcd;
    },
    get directory(): string {
      return directory;
    },
  };
}
