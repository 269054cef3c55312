import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Listener, type RpcPeer, realIo, rpcPeer } from '../../io/index.ts';
import { asAddress } from '../../model/index.ts';
import { openEmbeddedLog } from '../embedded/embedded-log.ts';
import type { LogEntry, SharedLog } from '../shared-log.ts';
import { channels, streamWindowBytes } from './messages.ts';
import { remoteLog } from './remote-log.ts';
import { serveLog } from './serve-log.ts';

const io = realIo();
let directory: string;
let log: SharedLog;
let listener: Listener;
let peer: RpcPeer;
let serverPeer: RpcPeer;
/** Entries that the served log gave to followers. */
let givenOut: number;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-remote-'));
  log = await openEmbeddedLog({ io, directory });
  givenOut = 0;
  const counted = new Proxy(log, {
    get: (target, name) => {
      if (name === 'follow') return counting;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  async function* counting(...args: Parameters<SharedLog['follow']>) {
    for await (const run of log.follow(...args)) {
      for (const entry of run) {
        givenOut += 1;
        yield [entry];
      }
    }
  }
  listener = await io.network.listen('127.0.0.1:0', (connection) => {
    serverPeer = rpcPeer(connection);
    serveLog(counted, serverPeer);
  });
  peer = rpcPeer(await io.network.connect(listener.address));
});
afterEach(async () => {
  peer.close();
  await listener.close();
  await log.close();
  rmSync(directory, { recursive: true, force: true });
});

it('fails everything with PEER_UNREACHABLE when the connection is lost', async () => {
  const remote = remoteLog(peer);
  await remote.write({ epoch: 0, address: asAddress(0) }, Buffer.from('x'));
  const seen: LogEntry[] = [];
  const following = (async () => {
    for await (const run of remote.follow(asAddress(0))) seen.push(...run);
  })();
  following.catch(() => undefined);
  while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  serverPeer.close();
  await expect(following).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  await expect(remote.tail()).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  await expect(remote.follow(asAddress(0))[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'PEER_UNREACHABLE',
  });
});

it('sends no more than the window ahead of a slow follower', async () => {
  const remote = remoteLog(peer);
  const entryBytes = 300_000;
  const count = Math.ceil((3 * streamWindowBytes) / entryBytes);
  for (let address = 0; address < count; address += 1) {
    await remote.write({ epoch: 0, address: asAddress(address) }, Buffer.alloc(entryBytes, 1));
  }
  const follower = remote.follow(asAddress(0))[Symbol.asyncIterator]();
  await follower.next();
  await new Promise((resolve) => setTimeout(resolve, 100));
  const window = Math.ceil(streamWindowBytes / entryBytes);
  expect(givenOut).toBeLessThanOrEqual(window + 2);
  let seen = 1;
  while (seen < count) {
    const next = await follower.next();
    seen += (next.value as readonly LogEntry[]).length;
  }
  expect(givenOut).toBe(count);
  await follower.return?.();
});

it('closes the connection on bytes that make no sense', async () => {
  remoteLog(peer);
  const closed = new Promise<void>((resolve) => peer.onClose(() => resolve()));
  peer.push(channels.consumed, [Buffer.from([1, 2])]);
  await closed;
  await log.write({ epoch: 0, address: asAddress(0) }, Buffer.from('goes on'));
});
