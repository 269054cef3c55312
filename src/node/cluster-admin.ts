import { DaybookError } from '../base/index.ts';
import type { Io, Network } from '../io/index.ts';
import { currentLeader, type EtcdLog, type Leader, listNodes } from '../log/index.ts';
import {
  type ClusterLogOptions,
  type EtcdTlsFiles,
  openClusterLog,
  privateNetwork,
} from './cluster-log.ts';
import { type Member, membersOf } from './members.ts';
import { remoteOrders } from './private-service.ts';

/** A network of many machines as its operators see it; reaches nodes on the private network. */
export interface ClusterAdmin {
  /** The registered nodes, by name. */
  members(): Promise<readonly Member[]>;
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
  close(): Promise<void>;
}

/** @throws {DaybookError} as `openClusterLog` */
export async function openClusterAdmin(
  io: Pick<Io, 'clock' | 'timers' | 'random' | 'disk' | 'network'>,
  options: ClusterLogOptions,
  privateTls?: EtcdTlsFiles,
): Promise<ClusterAdmin> {
  const network = await privateNetwork(io, privateTls);
  return clusterAdmin(await openClusterLog(io, options), network);
}

function clusterAdmin(log: EtcdLog, network: Network): ClusterAdmin {
  const leader = (): Promise<Leader | undefined> => currentLeader(log);
  const members = async (): Promise<readonly Member[]> => membersOf(await listNodes(log));
  return {
    leader,
    members,
    moveSequencer: async (to) => {
      const present = await leader();
      if (present === undefined) throw new DaybookError('NOT_FOUND', 'no node leads at present');
      await remoteOrders(network, present.address).handOver(to);
    },
    drain: async (name, on) => {
      const member = (await members()).find((each) => each.name === name);
      if (member === undefined) {
        throw new DaybookError('NOT_FOUND', `no node ${name} is registered`, {
          details: { node: name },
        });
      }
      await remoteOrders(network, member.address).drain(on);
    },
    close: () => log.close(),
  };
}
