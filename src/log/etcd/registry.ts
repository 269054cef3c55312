import { checkLimit, DaybookError, isDaybookError, limits } from '../../base/index.ts';
import type { EtcdLog } from './etcd-log.ts';
import { prefixEnd } from './keys.ts';
import { Session } from './session.ts';
import { watchUnit } from './unit-watch.ts';

/** What a node tells the others; plain JSON, `name` unique in the network. */
export interface NodeInfo {
  readonly name: string;
  readonly [field: string]: unknown;
}

/** A node's own entry in the registry, there until closed or for a lease after its death. */
export interface Registration {
  /** Replaces what the node tells. */
  update(info: NodeInfo): Promise<void>;
  close(): Promise<void>;
}

const leaseDefaultMs = 5000;
const failurePauseMs = 200;
const watchSilenceMs = 1000;

/** Registers a node, and again by itself whenever the lease was lost. */
export async function register(
  log: EtcdLog,
  info: NodeInfo,
  leaseMs = leaseDefaultMs,
): Promise<Registration> {
  const { units } = log;
  const closing = new AbortController();
  let present = info;
  let session = await enrol();

  async function enrol(): Promise<Session> {
    const opened = await Session.open(units, leaseMs);
    await put(opened);
    return opened;
  }

  async function put(to: Session): Promise<void> {
    const value = Buffer.from(JSON.stringify(present), 'utf8');
    checkLimit('nodeInfoBytesMax', value.length);
    await to.unit.client.call('put', { key: keyOf(log, present.name), value, lease: to.lease });
  }

  async function keepEnrolled(): Promise<void> {
    while (!closing.signal.aborted) {
      await untilAborted(AbortSignal.any([session.lost, closing.signal]));
      if (closing.signal.aborted) return;
      try {
        await units.refresh();
        session = await enrol();
      } catch (error) {
        if (isDaybookError(error, 'CLOSED')) return;
        await units.home.client.sleep(failurePauseMs);
      }
    }
  }

  void keepEnrolled();
  return {
    update: async (next) => {
      if (next.name !== info.name) {
        throw new DaybookError('INVALID_ARGUMENT', 'a node keeps its name');
      }
      present = next;
      await put(session);
    },
    close: async () => {
      closing.abort();
      await session.close();
    },
  };
}

/** The registered nodes, sorted by name. */
export async function listNodes(log: EtcdLog): Promise<NodeInfo[]> {
  await log.units.refresh();
  return (await readNodes(log)).nodes;
}

/** The registered nodes, now and after each change, until `signal` aborts. */
export async function* watchNodes(
  log: EtcdLog,
  signal: AbortSignal,
): AsyncGenerator<readonly NodeInfo[]> {
  const { units } = log;
  let last: string | undefined;
  while (!signal.aborted) {
    try {
      await units.refresh();
      const { nodes, revision } = await readNodes(log);
      const text = JSON.stringify(nodes);
      if (text !== last) {
        last = text;
        yield nodes;
      }
      await watchUnit({
        client: units.home.client,
        timers: units.io.timers,
        key: units.keys.nodes,
        end: prefixEnd(units.keys.nodes),
        revision: revision + 1,
        silenceMs: watchSilenceMs,
        signal,
        deletes: true,
        onKeys: () => false,
      });
    } catch (error) {
      if (signal.aborted) return;
      if (!isDaybookError(error, 'TIMEOUT')) throw error;
    }
  }
}

async function readNodes(log: EtcdLog): Promise<{ nodes: NodeInfo[]; revision: number }> {
  const { keys, home } = log.units;
  const answer = await home.client.call('range', {
    key: keys.nodes,
    range_end: prefixEnd(keys.nodes),
    limit: limits.nodesMax,
  });
  const nodes = answer.kvs.map((kv) => JSON.parse(kv.value.toString('utf8')) as NodeInfo);
  return { nodes, revision: Number(answer.header.revision) };
}

function keyOf(log: EtcdLog, name: string): Buffer {
  return Buffer.concat([log.units.keys.nodes, Buffer.from(name, 'utf8')]);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
