import { toDaybookError } from '../base/index.ts';
import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import { remoteLog } from '../log/index.ts';
import { remoteSequencer } from '../sequencer/index.ts';
import { startClusterNode } from './cluster-node.ts';
import { controlMethods, type ExecutorProcessOptions, toPayload } from './control.ts';
import { startExecutorNode } from './executor-node.ts';

/* An executor process: started by `network.ts`, ends with its supervisor. */

const options = JSON.parse(process.argv[2] ?? '{}') as ExecutorProcessOptions;
const io = realIo();
const peer = rpcPeer(parentConnection());
const onEvent = (text: string): void => {
  peer.push(controlMethods.event, toPayload(text));
};
// Ctrl-C reaches the whole process group; the supervisor decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

try {
  const { cluster } = options;
  const node =
    cluster === undefined
      ? await startExecutorNode({
          ...options,
          io,
          log: remoteLog(peer),
          sequencer: options.sequencer ? remoteSequencer(peer) : undefined,
          onEvent,
        })
      : await startClusterNode({ ...options, cluster, io, onEvent });
  peer.handle(controlMethods.status, () => toPayload(node.status()));
  peer.handle(controlMethods.stop, async () => {
    await node.close();
    return [];
  });
  await peer.call(controlMethods.started, toPayload({ url: node.url, port: node.port }));
} catch (error) {
  const { code, message } = toDaybookError(error);
  await peer.call(controlMethods.started, toPayload({ error: { code, message } }));
  process.exit(1);
}
