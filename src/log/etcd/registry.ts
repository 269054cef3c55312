import { checkLimit, DaybookError, isDaybookError } from '../../base/index.ts';
import { type Compare, compareResult, compareTarget, type KeyValue } from './etcd-api.ts';
import type { EtcdLog } from './etcd-log.ts';
import { nodeKey, nodesRange, prefixEnd } from './keys.ts';
import { Session } from './session.ts';
import { absent } from './txn.ts';
import { watchUnit } from './unit-watch.ts';

/** What a node tells the others; plain JSON, `name` unique among the running nodes. */
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
/** An expired lease is not gone at once. */
const graceMs = 2000;
const watchSilenceMs = 1000;

/** Settings of {@link register}. */
export interface RegisterOptions {
  /** Whether an entry under the same name is of this node's own earlier life. Default: never. */
  readonly isOwn?: (present: NodeInfo) => boolean;
  /** How long an entry outlives its node, milliseconds; whole seconds from 2. Default 5,000. */
  readonly leaseMs?: number;
  /**
   * The lease was lost for a while and meanwhile another node took the name; `false` as soon as the
   * name is this node's again.
   */
  readonly onTaken?: (taken: boolean) => void;
}

/**
 * Registers a node, and again by itself whenever the lease was lost. The entry of a node of the same
 * name that died without a word is waited for.
 *
 * @throws {DaybookError} `NODE_NAME_TAKEN` when another node runs under this name.
 */
export async function register(
  log: EtcdLog,
  info: NodeInfo,
  options: RegisterOptions = {},
): Promise<Registration> {
  const { isOwn = () => false, leaseMs = leaseDefaultMs, onTaken } = options;
  const { units } = log;
  const closing = new AbortController();
  let present = info;
  const untilMs = units.io.clock.monotonicMs() + leaseMs + graceMs;
  let session: Session | undefined;
  while (session === undefined) {
    session = await enrol();
    if (session !== undefined) break;
    if (units.io.clock.monotonicMs() >= untilMs) throw nameTaken(info.name);
    await units.home.client.sleep(failurePauseMs);
  }
  let current: Session = session;
  let putting: Promise<unknown> = Promise.resolve();

  /** `undefined`: the name is somebody else's. */
  async function enrol(): Promise<Session | undefined> {
    const key = keyOf(log, info.name);
    const answer = await units.home.client.call('range', { key });
    const found = answer.kvs[0];
    if (found !== undefined && !isOwn(decodeNode(found))) return undefined;
    const opened = await Session.open(units, leaseMs);
    const unchanged: Compare =
      found === undefined
        ? absent(key)
        : {
            key,
            target: compareTarget.mod,
            result: compareResult.equal,
            mod_revision: Number(found.mod_revision),
          };
    // When the answer is lost and it is asked again, the entry of the first time is an own one.
    if (await put(opened, [unchanged])) return opened;
    await opened.close();
    return undefined;
  }

  async function put(to: Session, compare: readonly Compare[]): Promise<boolean> {
    const key = keyOf(log, info.name);
    const value = Buffer.from(JSON.stringify(present), 'utf8');
    checkLimit('nodeInfoBytesMax', value.length);
    const answer = await to.unit.client.call('txn', {
      compare,
      success: [{ request_put: { key, value, lease: to.lease } }],
      failure: [{ request_range: { key } }],
    });
    if (answer.succeeded) return true;
    const standing = answer.responses[0]?.response_range?.kvs[0];
    return standing?.value.equals(value) === true && standing.lease === to.lease;
  }

  async function keepEnrolled(): Promise<void> {
    while (!closing.signal.aborted) {
      await untilAborted(AbortSignal.any([current.lost, closing.signal]));
      if (closing.signal.aborted) return;
      try {
        await units.refresh();
        const again = await enrol();
        onTaken?.(again === undefined);
        if (again !== undefined) current = again;
        else await units.home.client.sleep(failurePauseMs);
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
      // One after the other, so that the newest stays. Without the lease it is told when enrolled.
      const putNow = putting.then(() => put(current, [heldUnder(keyOf(log, info.name), current)]));
      putting = putNow.catch(() => undefined);
      await putNow;
    },
    close: async () => {
      closing.abort();
      await current.close();
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
  const answer = await home.client.call('range', nodesRange(keys.nodes));
  const nodes = answer.kvs.map(decodeNode);
  log.units.nodes = nodes.length;
  return { nodes, revision: Number(answer.header.revision) };
}

function decodeNode(kv: KeyValue): NodeInfo {
  return JSON.parse(kv.value.toString('utf8')) as NodeInfo;
}

function heldUnder(key: Buffer, { lease }: Session): Compare {
  return { key, target: compareTarget.lease, result: compareResult.equal, lease };
}

function nameTaken(name: string): DaybookError {
  return new DaybookError('NODE_NAME_TAKEN', `another node runs under the name ${name}`, {
    details: { node: name },
  });
}

function keyOf(log: EtcdLog, name: string): Buffer {
  return nodeKey(log.units.keys.nodes, name);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
