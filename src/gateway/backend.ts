import type { BlockService } from '../blocks/index.ts';
import type { Executor } from '../executor/index.ts';
import type { Address, ChannelConfig, IdentityVerifier, Position, TxId } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import type { FollowerService } from '../replication/index.ts';
import type { TransactionStatus } from '../state/index.ts';

/** What the gateway needs of one channel on its node. Wired by `node/`. */
export interface GatewayBackend {
  readonly channel: string;
  readonly executor: Executor;
  /** The channel's configuration at the replica's address. */
  config(): ChannelConfig;
  /** Checks identities by that configuration. */
  verifier(): IdentityVerifier;
  /** The first address that is not applied yet. */
  nextAddress(): Address;
  /** The time at the end of what is applied; milliseconds since 1970. */
  logTimeMs(): number;
  /** Resolves to true once `position` is applied, to false after `waitMs` without that. */
  waitFor(position: Position, waitMs: number): Promise<boolean>;
  /** Where a transaction stands, as far as this node knows. */
  status(txId: TxId): TransactionStatus | undefined;
  /**
   * Applied entries from `from` on, at most `limit`; empty at the tail; does not wait.
   *
   * @throws {DaybookError} `LOG_TRIMMED`
   */
  read(from: Address, limit: number): Promise<readonly AppliedEntry[]>;
  /**
   * Applied entries from `from` on, then new ones as they are applied; pulled, so a slow reader
   * costs no memory. Ends quietly when `signal` aborts.
   *
   * @throws {DaybookError} `LOG_TRIMMED`, `CLOSED`
   */
  follow(from: Address, signal: AbortSignal): AsyncIterable<readonly AppliedEntry[]>;
  /** Answers those who keep copies; nodes may do without. */
  readonly followers?: FollowerService;
  /** Makes the chain of blocks; nodes may do without. */
  readonly blocks?: BlockSource;
  /** The deployed contracts, by name. */
  contracts(): readonly DeployedContract[];
  /** Whether this node can serve the channel now, and why not. */
  health(): BackendHealth;
  /** Numbers for `/metrics`, by name in camelCase. */
  metrics(): Readonly<Record<string, number>>;
}

/** One deployed contract. */
export interface DeployedContract {
  readonly name: string;
  readonly version: string;
  /** 1 for the first deployment, then one more each time. */
  readonly sequence: number;
}

/** See {@link GatewayBackend.health}. */
export interface BackendHealth {
  readonly ready: boolean;
  /** What is missing while `ready` is false. */
  readonly reason?: string;
  /** What the node does about its state, see `docs/repair.md`; absent where nobody looks after it. */
  readonly guard?: object;
  /** Bulk updates whose rows are being updated in the background, in log order. */
  readonly bulk?: readonly object[];
  /** Nodes that make blocks and are away, for which this one, which trims the log, waits. */
  readonly logWaitsFor?: readonly string[];
  /** Why what is applied cannot be saved at present: applying ends when no more of it fits in memory. */
  readonly unsaved?: string;
  /** Log units that do not answer this node, each as the endpoints of its members. */
  readonly logUnitsAway?: readonly string[];
}

/** A node's blocks, receipts and proofs. */
export interface BlockSource {
  /** @throws {DaybookError} `PROOF_NOT_READY` while it is being opened; what kept it from opening. */
  service(): Pick<BlockService, 'status' | 'block' | 'receipt' | 'keyProof' | 'follow'>;
  /** `undefined` while it is being opened. */
  health(): BlocksHealth | undefined;
}

/** Where a node's chain stands. The same height means the same hashes on all nodes. */
export interface BlocksHealth {
  /** Number of blocks. */
  readonly height: number;
  /** Everything in the log before this position is in blocks. */
  readonly position?: number;
  readonly records?: number;
  /** Of the newest block, hexadecimal. */
  readonly blockHash?: string;
  readonly stateRoot?: string;
  /** Why no more blocks are made. */
  readonly alarm?: string;
}
