import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import {
  currentLeader,
  type EtcdLog,
  type Layout,
  type Leader,
  listNodes,
  parseEtcdUrl,
} from '../log/index.ts';
import { type ClusterLogOptions, openClusterLog, privateNetwork } from './cluster-log.ts';
import { makersOn } from './makers.ts';
import { type Member, makersIn, membersOf } from './members.ts';
import { remoteOrders } from './private-service.ts';
import type { TlsFilePaths } from './tls-files.ts';

/** A network of many machines as its operators see it; reaches nodes on the private network. */
export interface ClusterAdmin {
  /** The registered nodes, by name. */
  members(): Promise<readonly Member[]>;
  /** Names of the nodes that make blocks, whether they are registered or not. */
  makers(): Promise<readonly string[]>;
  /**
   * Forgets a node that made blocks and will not do so again: the log waits for it no more, and its chain
   * may never go on.
   *
   * @throws {DaybookError} `NOT_FOUND` when nobody knows it to make blocks; `INVALID_ARGUMENT` while it
   *   does.
   */
  forget(name: string): Promise<void>;
  /** Who leads as sequencer; `undefined` while nobody does. */
  leader(): Promise<Leader | undefined>;
  /**
   * Moves the sequencer's place to the named node, or to the next one.
   *
   * @throws {DaybookError} `NOT_FOUND` when nobody leads or no such node could.
   */
  moveSequencer(to?: string): Promise<void>;
  /**
   * Makes a node refuse new transactions, and give up the sequencer's place, or undoes that.
   *
   * @throws {DaybookError} `NOT_FOUND`
   */
  drain(name: string, on: boolean): Promise<void>;
  /** Which log units there are, and which addresses lie on which. */
  layout(): Promise<Layout>;
  /**
   * Puts what is written from now on onto other log units, or onto the same ones with other members,
   * while the network is in use.
   *
   * @param url - as `parseEtcdUrl`; the prefix is not looked at.
   * @throws {DaybookError} `CONFIG_INVALID`; `TIMEOUT` when a unit has no majority.
   */
  setUnits(url: string): Promise<Layout>;
  close(): Promise<void>;
}

/** @throws {DaybookError} as `openClusterLog` */
export async function openClusterAdmin(
  io: Pick<Io, 'clock' | 'timers' | 'random' | 'disk' | 'network'>,
  options: ClusterLogOptions,
  privateTls?: TlsFilePaths,
): Promise<ClusterAdmin> {
  const network = await privateNetwork(io, privateTls);
  return clusterAdmin(await openClusterLog(io, options, { mustExist: true }), { ...io, network });
}

function clusterAdmin(log: EtcdLog, io: Pick<Io, 'network' | 'timers'>): ClusterAdmin {
  const leader = (): Promise<Leader | undefined> => currentLeader(log);
  const members = async (): Promise<readonly Member[]> => membersOf(await listNodes(log));
  const makers = makersOn(log);
  return {
    leader,
    members,
    makers: () => makers.names(),
    forget: async (name) => {
      const details = { node: name };
      if (makersIn(await members()).some((maker) => maker.name === name)) {
        const message = `${name} makes blocks: stop it, or start it with --no-blocks, first`;
        throw new DaybookError('INVALID_ARGUMENT', message, { details });
      }
      if (!(await makers.names()).includes(name)) {
        throw new DaybookError('NOT_FOUND', `no node ${name} is known to make blocks`, { details });
      }
      await makers.forget(name);
    },
    moveSequencer: async (to) => {
      const present = await leader();
      if (present === undefined) throw new DaybookError('NOT_FOUND', 'no node leads at present');
      await remoteOrders(io, present.address).handOver(to);
    },
    drain: async (name, on) => {
      const member = (await members()).find((each) => each.name === name);
      if (member === undefined) {
        throw new DaybookError('NOT_FOUND', `no node ${name} is registered`, {
          details: { node: name },
        });
      }
      await remoteOrders(io, member.address).drain(on);
    },
    layout: () => log.layout(),
    setUnits: (url) => log.setUnits(parseEtcdUrl(url).units),
    close: () => log.close(),
  };
}
