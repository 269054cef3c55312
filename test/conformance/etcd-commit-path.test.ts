import { test } from 'vitest';
import { openTestLogsBy } from '../../src/executor/testing/harness.ts';
import { openEtcdLog } from '../../src/log/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';

/* The tests of the commit path, which the executor's room runs over the embedded log, over etcd. */

if (etcdAvailable()) {
  const suite = etcdSuite({ members: 1 });
  let logs = 0;
  openTestLogsBy((io) =>
    openEtcdLog(io, { units: [{ endpoints: suite.etcd.endpoints }], prefix: `path-${logs++}/` }),
  );
  await import('../../src/executor/behaviour.test.ts');
  await import('../../src/executor/serializable.test.ts');
} else {
  test.skip('etcd is not installed', () => undefined);
}
