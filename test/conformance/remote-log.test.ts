import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realIo, rpcPeer } from '../../src/io/index.ts';
import { openEmbeddedLog, remoteLog, type SharedLog, serveLog } from '../../src/log/index.ts';
import { sharedLogConformance } from './shared-log.ts';

const io = realIo();

/** Closes the connection, the listener and the log behind it together with the log. */
async function openRemote(directory: string): Promise<SharedLog> {
  const log = await openEmbeddedLog({ io, directory });
  const listener = await io.network.listen(`unix:${join(directory, 'socket')}`, (connection) =>
    serveLog(log, rpcPeer(connection)),
  );
  const peer = rpcPeer(await io.network.connect(listener.address));
  const remote = remoteLog(peer);
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    await remote.close();
    peer.close();
    await listener.close();
    await log.close();
  };
  return new Proxy(remote, {
    get: (target, name) => {
      if (name === 'close') return () => (closing ??= close());
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

sharedLogConformance('remote over embedded', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-log-'));
  return {
    open: () => openRemote(directory),
    destroy: async () => rmSync(directory, { recursive: true, force: true }),
  };
});
