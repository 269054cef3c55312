import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { sampleData } from '../../examples/standing-orders/sample.ts';
import { expectedResult } from '../../examples/standing-orders/testing/expected.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';
import { built } from '../process/built.ts';
import { etcdUrl } from './ledger.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;
const run = promisify(execFile);

describe.skipIf(!etcdAvailable())('standing orders on a cluster', { timeout: 300_000 }, () => {
  const suite = etcdSuite();

  test('three executors over etcd come to the balances of plain bookkeeping', async () => {
    const network = await startNetwork({
      directory: suite.directory,
      executors: 3,
      httpPort: 0,
      cluster: { log: { url: etcdUrl(suite.etcd) }, privateHost: '127.0.0.1', privatePort: 0 },
    });
    try {
      const { stdout } = await run(process.execPath, [
        built('examples/standing-orders/main.js'),
        ...network.gateways.flatMap((url) => ['--gateway', url]),
        ...['--certificate', network.certificateFile, '--key', network.keyFile],
        ...'--sample-accounts 300 --months 12 --json'.split(' '),
      ]);
      const expected = expectedResult(sampleData(300), 12);
      expect(expected.refused).toBeGreaterThan(0);
      expect(JSON.parse(stdout)).toMatchObject(expected);
    } finally {
      await network.close();
    }
  });
});
