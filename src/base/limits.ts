import { DaybookError } from './errors.ts';

/**
 * Every limit of Daybook, in one place (invariant I9). A limit that is hit is named in the error:
 * `LIMIT_EXCEEDED` or `OVERLOADED` with `details.limit`. Values are defaults; those that a channel
 * or a node may set appear in its configuration under the same name.
 */
export const limits = {
  // model
  nameBytesMax: 128,
  argumentsMax: 256,
  argumentBytesMax: 2 * 1024 * 1024,
  certificateBytesMax: 8 * 1024,
  nonceBytes: 24,
  keyBytesMax: 1024,
  valueBytesMax: 4 * 1024 * 1024,
  batchTransactionsMax: 1000,
  batchBytesMax: 4 * 1024 * 1024,
  /** Records in one entry; also fixes the split of a position into (address, index). */
  recordsPerEntryMax: 4096,
  recordBytesMax: 6 * 1024 * 1024,
  entryBytesMax: 8 * 1024 * 1024,
  readsPerRecordMax: 100_000,
  writesPerRecordMax: 100_000,
  // io
  /** One message between processes; must hold the largest entry with its header. */
  frameBytesMax: 16 * 1024 * 1024,
  /** Unsent bytes above which `Connection.send` answers false. */
  sendBufferBytesMark: 1024 * 1024,
  /** Unsent bytes above which a connection is closed: its peer stopped reading. */
  sendBufferBytesMax: 256 * 1024 * 1024,
  peerConnectionsMax: 1024,
  /** A connection that is not there after so long, TLS included, will not be. */
  connectMsMax: 2_000,
  rpcCallsInFlightMax: 65_536,
  rpcStreamsMax: 1024,
  // log
  logWritesInFlightMax: 1024,
  logBytesInFlightMax: 256 * 1024 * 1024,
  /** How far a write may be ahead of the first address that is still open. */
  logWindowAddressesMax: 65_536,
  /** Entries that are written and synced together. */
  logGroupBytesMax: 4 * 1024 * 1024,
  /** Entries that a follower gets at once. */
  logRunBytesMax: 1024 * 1024,
  logRunEntriesMax: 1024,
  logRecentBytesMax: 32 * 1024 * 1024,
  logFollowersMax: 1024,
  logSegmentBytesMin: 1024 * 1024,
  logSegmentBytesMax: 64 * 1024 * 1024,
  logOpenSegmentsMax: 16,
  /** Default quota of an etcd member (`--quota-backend-bytes`). */
  logSpaceBytes: 2 * 1024 * 1024 * 1024,
  logUnitsMax: 64,
  /** Larger entries are split: an etcd request may have 1.5 MB by default. */
  logPartBytesMax: 1024 * 1024,
  /** Entries and bytes written to etcd in one transaction. */
  logBatchEntriesMax: 64,
  logBatchBytesMax: 1024 * 1024,
  /** What one follower holds of the log ahead of its reader. */
  logFollowBytesMax: 16 * 1024 * 1024,
  /** Nodes in one network, and what one of them tells the others of itself. */
  nodesMax: 1024,
  /** Entries that a new node rather replays than asks another node for a snapshot. */
  joinReplayEntriesMax: 10_000,
  nodeInfoBytesMax: 64 * 1024,
  // sequencer
  sequencerWindowKeysMax: 200_000,
  /** Keys kept for transactions that lost several times. */
  sequencerReservationsMax: 10_000,
  /** Bulk updates that the window remembers. */
  sequencerWindowRangesMax: 1_000,
  // state
  /** Writes that wait in memory before they are flushed; replay after a crash repeats them. */
  stateFlushWritesMax: 100_000,
  stateFlushBytesMax: 64 * 1024 * 1024,
  /** Rows that an executor counts of a bulk update's range. */
  bulkRowsCountedMax: 1_000,
  /** A bulk update over at most so many rows is executed as reads and writes of rows. */
  bulkRowsExpandedMax: 100,
  /** Bulk updates whose rows are not all updated; an executor refuses further ones. */
  bulkPendingMax: 64,
  bulkSwitchBlocksMax: 10_000,
  /** Characters of a bulk update's query, and of its update. */
  bulkTextMax: 16 * 1024,
  /** Digits of a decimal number in a bulk update. */
  bulkDigitsMax: 60,
  /** Transactions between two flushes. */
  stateFlushTransactionsMax: 100_000,
  /** Applying pauses while more writes than this wait for a flush. */
  stateUnflushedWritesMax: 400_000,
  stateUnflushedBytesMax: 160 * 1024 * 1024,
  /** Transaction ids kept in memory before they go into a sorted segment. */
  transactionSegmentIdsMax: 262_144,
  snapshotChunkBytesMax: 16 * 1024 * 1024,
  // replica
  replicaWaitersMax: 100_000,
  /** Applied entries kept in memory for those who read along. */
  replicaRecentEntriesMax: 64,
  replicaRecentBytesMax: 4 * 1024 * 1024,
  pageRowsMax: 10_000,
  queryRowsMax: 10_000,
  // contract
  /** At most `argumentBytesMax`: a bundle travels as an argument; twice in its record. */
  contractBundleBytesMax: 2 * 1024 * 1024,
  contractCpuMsMax: 2_000,
  contractHeapMiBMax: 256,
  contractBufferBytesMax: 64 * 1024 * 1024,
  // executor
  executorTransactionsMax: 20_000,
  /** Entries read at a time for the outcomes of transactions that came again. */
  originalReadsMax: 4,
  /** Calls handed to the contract process and not answered yet. */
  contractCallsInFlightMax: 2_000,
  /** Evaluated calls that wait for their answer. */
  evaluationsInFlightMax: 2_000,
  /** Executions of one transaction before it is given up as conflicting. */
  executionAttemptsMax: 1_000,
  groupBytesMax: 1024 * 1024,
  groupsInFlightMax: 8,
  // blocks
  /** Records in one chain block, whatever the channel's configuration says. */
  recordsPerBlockMax: 10_000,
  /** Bytes of log records in one chain block; a larger record stands alone in its block. */
  blockRecordBytesMax: 16 * 1024 * 1024,
  /** A file of the block store is closed after this many bytes. */
  blockSegmentBytesMax: 64 * 1024 * 1024,
  /** Closed files of the block store whose index is held in memory. */
  blockSegmentsCachedMax: 32,
  /** Pages of 1,024 versions (16 KiB each) that a block generator holds in memory. */
  blockVersionPagesMax: 4096,
  /** Bytes of entries handed to a block generator at once; one entry may be larger. */
  blockPushBytesMax: 1024 * 1024,
  blockFollowersMax: 256,
  /** Rows that a scrub doubts at the same time, until the state and the tree are level. */
  scrubSuspectsMax: 10_000,
  /** Hashes of blocks in one answer to another node. */
  blockDigestsMax: 1_000,
  /** A node that was restored so often within an hour halts when its state differs again. */
  repairsPerHourMax: 3,
  /** Differing rows that are kept as evidence of a diverged state. */
  evidenceRowsMax: 1_000,
  // replication
  /** Followers that a node keeps account of. */
  followersMax: 1_000,
  /** Pulls and scans that are answered at the same time; others wait at their follower. */
  followerPullsMax: 64,
  /** Of them for one follower; those of its runs that were killed wait on for a while. */
  followerPullsEachMax: 16,
  /** Changes in one page; a commit that is larger goes alone, and whole. */
  followerPageChangesMax: 20_000,
  followerPageBytesMax: 8 * 1024 * 1024,
  /** The longest answer that a follower reads. */
  followerAnswerBytesMax: 256 * 1024 * 1024,
  followerWaitMsMax: 30_000,
  /** Entries that are looked through for one page, or to count what a follower lacks. */
  followerScanEntriesMax: 2_048,
  /** Followers whose needs a node tells the others; those that need the oldest entries. */
  followerHoldsMax: 64,
  /** Places of the log that a node reads on from for its followers; others begin anew. */
  followerStreamsMax: 16,
  /** Decoded entries that are kept for the next follower. */
  followerWindowBytesMax: 16 * 1024 * 1024,
  subscriptionSelectionsMax: 256,
  subscriptionBytesMax: 64 * 1024,
  /** Changes that a follower without a database keeps parked. */
  followerParkedMax: 10_000,
  /** Rows of an outbox that are captured together. */
  outboxRowsMax: 2_000,
  /** Publishers that are logged in at a registry node at a time. */
  registryTokensMax: 10_000,
  // gateway, client
  gatewayConnectionsMax: 1_000,
  gatewayBatchesInFlightMax: 1_000,
  /** The longest deadline a client may give, and the longest wait for a position. */
  gatewayDeadlineMsMax: 60_000,
  /** Unread outcomes of one batch that wait in memory for a slow client. */
  gatewayUnreadBytesMax: 64 * 1024 * 1024,
  /** Entries in one answer of the log's JSON view. */
  gatewayLogEntriesMax: 1_000,
  /** Endorsed transactions that wait for their client's signature at one node. */
  preparedTransactionsMax: 10_000,
  preparedBytesMax: 64 * 1024 * 1024,
  /** How long a node keeps one of them. */
  preparedLifetimeMs: 60_000,
  clientTransactionsInFlightMax: 20_000,
  /** Calls that wait for room among those in flight. */
  clientTransactionsWaitingMax: 100_000,
  eventSubscribersMax: 256,
  /** How long an event subscriber may leave its full connection unread. */
  eventStallMsMax: 30_000,
} as const;

/** The name of a limit, as used in configuration and in `details.limit`. */
export type LimitName = keyof typeof limits;

/** @throws {DaybookError} `LIMIT_EXCEEDED` naming `limit` when `actual` is over `max`. */
export function checkLimit(limit: LimitName, actual: number, max: number = limits[limit]): void {
  if (actual > max) {
    throw new DaybookError('LIMIT_EXCEEDED', `${limit} is ${max}, got ${actual}`, {
      details: { limit, max, actual },
    });
  }
}
