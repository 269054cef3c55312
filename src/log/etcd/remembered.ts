import { DaybookError, limits } from '../../base/index.ts';
import type { EtcdLog } from './etcd-log.ts';
import { type Keys, nodeKey, nodesRange } from './keys.ts';
import type { NodeInfo } from './registry.ts';
import type { Unit } from './unit.ts';

/*
 * Nodes that stay known when they are gone, until they are forgotten: beside the registry, on the home
 * unit like it, but without leases.
 */

/** A node that is remembered; `id` stays the same when the node gets another name. */
export interface RememberedNode extends NodeInfo {
  readonly id: string;
}

/**
 * Remembers a node; under an earlier name it is forgotten.
 *
 * @throws {DaybookError} `OVERLOADED` (`nodesMax`), and while etcd takes nothing.
 */
export async function rememberNode(log: EtcdLog, { name, id }: RememberedNode): Promise<void> {
  const others = (await rememberedNodes(log)).filter((node) => node.name !== name);
  if (others.length >= limits.nodesMax) {
    throw new DaybookError('OVERLOADED', `nodesMax is ${limits.nodesMax}: forget some nodes`, {
      details: { limit: 'nodesMax', max: limits.nodesMax },
    });
  }
  const value = Buffer.from(JSON.stringify({ name, id }), 'utf8');
  const renamed = others.filter((node) => node.id === id);
  await log.units.home.client.call('txn', {
    compare: [],
    success: [
      { request_put: { key: keyOf(log, name), value } },
      ...renamed.map((node) => ({ request_delete_range: { key: keyOf(log, node.name) } })),
    ],
  });
}

/** The remembered nodes, sorted by name. */
export async function rememberedNodes(log: EtcdLog): Promise<RememberedNode[]> {
  await log.units.refresh();
  const { keys, home } = log.units;
  const answer = await home.client.call('range', nodesRange(keys.remembered));
  return answer.kvs.map(({ value }) => JSON.parse(value.toString('utf8')) as RememberedNode);
}

/** Forgets a node. Needs no room in etcd. */
export async function forgetNode(log: EtcdLog, name: string): Promise<void> {
  await log.units.refresh();
  await log.units.home.client.call('deleteRange', { key: keyOf(log, name) });
}

/** Copies what is remembered to the unit that is to be the next home. */
export async function carryRemembered(from: Unit, to: Unit, { remembered }: Keys): Promise<void> {
  const { kvs } = await from.client.call('range', nodesRange(remembered));
  for (const { key, value } of kvs) {
    await to.client.call('put', { key, value });
  }
}

function keyOf(log: EtcdLog, name: string): Buffer {
  return nodeKey(log.units.keys.remembered, name);
}
