import { ByteWriter, toDaybookError } from '../base/index.ts';
import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import { remoteLog } from '../log/index.ts';
import { stateKey } from '../model/index.ts';
import { remoteSequencer } from '../sequencer/index.ts';
import { type RunningNode, startClusterNode } from './cluster-node.ts';
import { controlMethods, type ExecutorProcessOptions, fromPayload, toPayload } from './control.ts';
import { startExecutorNode } from './executor-node.ts';
import { answerNodes, type OtherNode } from './repair/other-nodes.ts';

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

/** The other executors of this machine, by way of the supervisor. */
const others = async (): Promise<OtherNode[]> => {
  const names = fromPayload<string[]>(await peer.call(controlMethods.others, []));
  return names.map((name) => ({
    name,
    call: (method, payload) => {
      const request = new ByteWriter(64).u64(method).text(name).raw(payload);
      return peer.call(controlMethods.relay, [request.finish()]);
    },
  }));
};

/** The supervisor starts the process again, and the node's record says what for. */
const onDiverged = (): void => {
  // What was told last must still leave.
  io.timers.after(100, () => process.exit(divergedExitCode), { keepAlive: true });
};
const divergedExitCode = 75;

try {
  const { cluster } = options;
  let node: RunningNode | undefined;
  answerNodes(peer, () => node?.answers);
  node =
    cluster === undefined
      ? await startExecutorNode({
          ...options,
          io,
          log: remoteLog(peer),
          sequencer: options.sequencer ? remoteSequencer(peer) : undefined,
          others,
          onDiverged,
          onEvent,
        })
      : await startClusterNode({ ...options, cluster, io, onDiverged, onEvent });
  const started = node;
  spoilOnSignal(started);
  peer.handle(controlMethods.status, () => toPayload(started.status()));
  peer.handle(controlMethods.stop, async () => {
    await started.close();
    return [];
  });
  await peer.call(controlMethods.started, toPayload({ url: started.url, port: started.port }));
} catch (error) {
  const { code, message } = toDaybookError(error);
  await peer.call(controlMethods.started, toPayload({ error: { code, message } }));
  process.exit(1);
}

/**
 * For tests of repair only: with DAYBOOK_DEBUG_SPOIL=CONTRACT/KEY=VALUE in the environment, the signal
 * SIGUSR2 puts that value into the row in this process's memory, past log and versions.
 */
function spoilOnSignal(node: RunningNode): void {
  const [, contract, key, value] =
    /^([^/=]+)\/([^=]+)=(.*)$/.exec(process.env.DAYBOOK_DEBUG_SPOIL ?? '') ?? [];
  if (contract === undefined || key === undefined || value === undefined) return;
  process.on('SIGUSR2', () => node.spoilForTests?.(stateKey(contract, key), value));
}
