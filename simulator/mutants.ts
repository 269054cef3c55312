import type { SharedLog } from '../src/log/index.ts';
import type { Replica } from '../src/replica/index.ts';
import type { Sequencer } from '../src/sequencer/index.ts';
import type { State } from '../src/state/index.ts';
import type { Cluster } from './cluster.ts';

/** A deliberate bug, put between the rooms from outside: production code has no hooks for it. */
export interface Mutant {
  readonly name: string;
  prepare?(cluster: Cluster): void;
  /** Comes between log process and log store. */
  log?(log: SharedLog, cluster: Cluster): SharedLog;
  /** Comes between log process and sequencer. */
  sequencer?(sequencer: Sequencer, cluster: Cluster): Sequencer;
  /** Comes between a node and its log. */
  nodeLog?(log: SharedLog, cluster: Cluster): SharedLog;
  /** Changes a node's state. */
  state?(state: State, node: string): void;
  /** Comes between executor and replica. */
  executorReplica?(replica: Replica, log: SharedLog): Replica;
}

/** Nothing is wrong. */
export const noMutant: Mutant = { name: 'none' };
