import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import { openEtcdLog } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from '../process/built.ts';
import { type Cluster, etcdAvailable, startCluster } from './cluster.ts';

const { openClusterAdmin, startNetwork } = (await import(
  built('src/node/index.js')
)) as typeof NodeRoom;

const io = realIo();

function opensslAvailable(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn('skipped: openssl is not installed');
    return false;
  }
}

describe.skipIf(!etcdAvailable() || !opensslAvailable())(
  'etcd with TLS and users',
  { timeout: 180_000 },
  () => {
    let directory: string;
    let cluster: Cluster;
    const file = (name: string): string => join(directory, name);
    const pem = (name: string): Buffer => readFileSync(file(name));
    const openssl = (...args: string[]): void => {
      execFileSync('openssl', args, { stdio: 'ignore', cwd: directory });
    };

    function certificate(name: string): void {
      const subject = ['-subj', `/CN=${name}`];
      openssl(
        'req',
        '-new',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        ...subject,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.csr`,
      );
      openssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        '-CA',
        'ca.crt',
        '-CAkey',
        'ca.key',
        '-CAcreateserial',
        '-days',
        '2',
        '-extfile',
        'san',
        '-out',
        `${name}.crt`,
      );
    }

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'daybook-tls-'));
      openssl(
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=test',
        '-keyout',
        'ca.key',
        '-out',
        'ca.crt',
      );
      writeFileSync(file('san'), 'subjectAltName=IP:127.0.0.1\n');
      certificate('server');
      certificate('client');
      cluster = await startCluster({
        members: 3,
        scheme: 'https',
        args: [
          `--cert-file=${file('server.crt')}`,
          `--key-file=${file('server.key')}`,
          `--trusted-ca-file=${file('ca.crt')}`,
          '--client-cert-auth',
        ],
      });
      const secure = [
        `--cacert=${file('ca.crt')}`,
        `--cert=${file('client.crt')}`,
        `--key=${file('client.key')}`,
      ];
      const etcdctl = (...args: string[]): string => cluster.etcdctl(...secure, ...args);
      for (let attempt = 0; ; attempt++) {
        try {
          etcdctl('user', 'add', 'root:secret');
          break;
        } catch (error) {
          if (attempt === 20) throw error;
        }
      }
      etcdctl('user', 'grant-role', 'root', 'root');
      etcdctl('user', 'add', 'other:word');
      etcdctl('auth', 'enable');
    }, 60_000);
    afterAll(async () => {
      await cluster.stop();
      rmSync(directory, { recursive: true, force: true });
    });

    const options = (user = 'root', password = 'secret') => ({
      units: [{ endpoints: cluster.endpoints }],
      tls: { ca: pem('ca.crt'), certificate: pem('client.crt'), key: pem('client.key') },
      credentials: { user, password },
      callTimeoutMs: 10_000,
    });

    test('works, and goes on when members forget their tokens', async () => {
      const log = await openEtcdLog(io, options());
      for (let address = 0; address < 30; address++) {
        await log.write({ epoch: 0, address: asAddress(address) }, Buffer.from(`entry ${address}`));
        if (address % 10 === 5) {
          const member = (address - 5) / 10;
          await cluster.kill(member);
          cluster.start(member);
        }
      }
      let next = 0;
      for await (const entries of log.follow(asAddress(0))) {
        for (const { address } of entries) expect(address).toBe(next++);
        if (next === 30) break;
      }
      await log.trim(asAddress(20));
      expect(await log.start()).toBe(20);
      await log.close();
    });

    test('refuses a wrong password, a user without rights, and whoever has no certificate', async () => {
      await expect(openEtcdLog(io, options('root', 'guess'))).rejects.toMatchObject({
        code: 'ACCESS_DENIED',
      });
      await expect(openEtcdLog(io, options('other', 'word'))).rejects.toMatchObject({
        code: 'ACCESS_DENIED',
      });
      const { tls: _, ...plain } = options();
      for (const tls of [{ ca: pem('ca.crt') }, undefined]) {
        const opening = openEtcdLog(io, { ...plain, ...(tls ? { tls } : {}), callTimeoutMs: 1000 });
        await expect(opening).rejects.toMatchObject({ code: 'TIMEOUT' });
      }
    });

    test('a whole network: TLS and a user towards etcd, TLS between nodes and towards clients', async () => {
      writeFileSync(file('password'), 'secret\n');
      const tls = { ca: file('ca.crt'), certificate: file('client.crt'), key: file('client.key') };
      const log = {
        url: `etcds://${cluster.endpoints.join()}/network`,
        tls,
        user: 'root',
        passwordFile: file('password'),
      };
      const network = await startNetwork({
        directory: join(directory, 'network'),
        executors: 2,
        httpPort: 0,
        blocks: false,
        tls: { certificateFile: file('server.crt'), keyFile: file('server.key') },
        cluster: { log, privateHost: '127.0.0.1', privatePort: 0, privateTls: tls },
      });
      const { gateways, channel, signer } = network;
      expect(gateways.map((gateway) => new URL(gateway).protocol)).toEqual(['https:', 'https:']);
      const client = await connect({
        gateways,
        channel,
        signer,
        tls: { ca: pem('ca.crt').toString() },
      });
      await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
      // Both nodes, so that one of them asks the other one's sequencer.
      for (let round = 0; round < 6; round++) {
        await client.submit('bench', 'move', ['payer', `payee${round}`, '1']);
      }
      expect((await client.evaluate('bench', 'read', ['payer'])).text()).toBe('-6');
      const { executors } = await network.status();
      expect(executors.every(({ status }) => (status?.executor.committed ?? 0) > 0)).toBe(true);
      // Orders are taken from those with a certificate only.
      const stranger = await openClusterAdmin(io, log);
      await expect(stranger.drain('executor-2', true)).rejects.toMatchObject({
        code: 'PEER_UNREACHABLE',
      });
      await stranger.close();
      const admin = await openClusterAdmin(io, log, tls);
      await admin.drain('executor-2', true);
      expect((await admin.members()).map(({ draining }) => draining)).toEqual([false, true]);
      await admin.close();
      await client.close();
      await network.close();
    });
  },
);
