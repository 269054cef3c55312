/** What helps after an error: see `DaybookError`. */
export type Retry = 'never' | 'same' | 'refresh';

/** One line of the catalogue: `status` is the HTTP status the gateway answers with. */
export interface ErrorCatalogEntry {
  readonly retry: Retry;
  readonly status: number;
  readonly cause: string;
  readonly remedy: string;
}

const entry = (retry: Retry, status: number, cause: string, remedy: string): ErrorCatalogEntry => ({
  retry,
  status,
  cause,
  remedy,
});

/**
 * Every error code of Daybook, with cause and remedy; `docs/errors.md` is made from this table and
 * a test compares the two. Sorted by room.
 */
export const errorCatalog = {
  // base
  INTERNAL: entry(
    'same',
    500,
    'A bug or an unforeseen condition in Daybook.',
    'Report it with the log lines around it.',
  ),
  LIMIT_EXCEEDED: entry(
    'never',
    413,
    'A named limit was exceeded; `details.limit` says which.',
    'Send less, or raise the limit in the configuration.',
  ),
  MALFORMED: entry(
    'never',
    400,
    'Bytes or JSON that do not have the documented form.',
    'Correct the sender; `details.what` names the part.',
  ),
  INVALID_ARGUMENT: entry(
    'never',
    400,
    'A well-formed request with a value that is not allowed.',
    'Correct the value that the message names.',
  ),
  TIMEOUT: entry(
    'same',
    504,
    'The operation did not finish before its deadline.',
    'Try again, or allow more time.',
  ),
  CLOSED: entry(
    'same',
    503,
    'The component was shut down while the call was under way.',
    'Try again at another node, or after the restart.',
  ),
  // io
  IO_FAILED: entry(
    'same',
    500,
    'The operating system refused a disk, network or process operation.',
    'Look at the message: a wrong path, a missing permission, a broken device.',
  ),
  LISTEN_FAILED: entry(
    'never',
    500,
    'An address to listen on is in use, is not one of this machine, or needs more rights.',
    'Stop what uses it, or choose another with `--port` or `--host`; between nodes, with `--private-port` or `--private-host`.',
  ),
  DISK_FULL: entry(
    'same',
    507,
    'No space left on the device that holds the data directory.',
    'Free space; the node goes on by itself.',
  ),
  PEER_UNREACHABLE: entry(
    'same',
    503,
    'No connection to another process of the network.',
    'Check that it runs and that the address is right.',
  ),
  NODE_NAME_TAKEN: entry(
    'same',
    503,
    'Two nodes of a network have the same name.',
    'Give one of them another name (`--node-prefix`).',
  ),
  // model
  SIGNATURE_INVALID: entry(
    'never',
    401,
    'A signature is missing or does not match the signed bytes.',
    'Sign with the private key of the certificate that is sent.',
  ),
  IDENTITY_UNKNOWN: entry(
    'never',
    401,
    'The certificate is not issued by a certificate authority of the named MSP, is expired or revoked.',
    'Enrol with a certificate authority that the channel knows.',
  ),
  ACCESS_DENIED: entry(
    'never',
    403,
    'The channel does not allow this MSP to do this.',
    'Ask an administrator to change the access rules of the channel.',
  ),
  CHANNEL_UNKNOWN: entry(
    'never',
    404,
    'This network has no channel of that name.',
    'Check the name with `daybook status`.',
  ),
  // log
  LOG_ADDRESS_TAKEN: entry(
    'refresh',
    409,
    'Another entry stands at this address.',
    'Take a new token.',
  ),
  LOG_EPOCH_SEALED: entry(
    'refresh',
    409,
    'A higher epoch has sealed the log.',
    'Take a new token from the new sequencer.',
  ),
  LOG_TRIMMED: entry(
    'never',
    410,
    'The address lies before the trim point.',
    'Read it from a block or a snapshot.',
  ),
  LOG_QUOTA_REACHED: entry(
    'same',
    503,
    'etcd has reached its quota with what must stay: it takes nothing any more, so no node can start.',
    'Give its members a larger --quota-backend-bytes, then start the node again; docs/etcd.md has all ways.',
  ),
  LOG_NOT_WRITTEN: entry(
    'same',
    404,
    'Nothing is written at this address yet.',
    'Wait for it, or fill it.',
  ),
  LOG_DAMAGED: entry(
    'never',
    500,
    'A stored entry fails its checksum, or a part of the log is gone.',
    'Stop the network and put the file that is named back from a copy of `log/`; for a log on etcd begin anew from a copy, with `daybook log copy --log etcd://…` (docs/backup.md). Nothing is skipped or cut.',
  ),
  LOG_LOCKED: entry(
    'same',
    503,
    'Another process has this data directory open.',
    'Stop the other process or choose another directory.',
  ),
  // state, replica
  STATE_DAMAGED: entry(
    'never',
    500,
    'The state or a block on disk is not what was written.',
    'It is rebuilt from a snapshot, the log or other nodes; see the message.',
  ),
  SNAPSHOT_INVALID: entry(
    'never',
    422,
    'A snapshot file is damaged or belongs to another channel.',
    'Fetch it again.',
  ),
  PROOF_INVALID: entry(
    'never',
    422,
    'A proof, receipt or block does not lead to the hash or signature it should.',
    'Do not trust it; `details` says where it fails. Fetch it again from another node.',
  ),
  QUERY_INVALID: entry(
    'never',
    400,
    'A JSON query is malformed or uses an operator that is not allowed.',
    'Correct the query; `details.operator` names the operator.',
  ),
  UPDATE_INVALID: entry(
    'never',
    400,
    'A bulk update is malformed, uses an operator that is not allowed, would change a field of a declared index in too many rows, or cannot change a row exactly.',
    'Correct the update; `details` name the operator, the field or the key. Amounts are integers or decimal texts.',
  ),
  // sequencer
  SNAPSHOT_TOO_OLD: entry(
    'refresh',
    409,
    'The reads are older than the window of recent writes.',
    'Execute again on fresh state.',
  ),
  SEQUENCER_NOT_READY: entry(
    'refresh',
    503,
    'The sequencer just took over, or there is none.',
    'Catch up with the log and ask again.',
  ),
  // contract
  CONTRACT_UNKNOWN: entry(
    'never',
    404,
    'No contract of that name is deployed on the channel.',
    'Deploy it with `daybook contract deploy`.',
  ),
  CONTRACT_VERSION_MISMATCH: entry(
    'refresh',
    409,
    'The transaction asks for another version than the deployed one.',
    'Leave the version out, or name the deployed one.',
  ),
  CONTRACT_BUNDLE_INVALID: entry(
    'never',
    422,
    'The directory or bundle is not a contract.',
    'See the message; `daybook contract deploy --help` shows the expected form.',
  ),
  CONTRACT_REJECTED: entry(
    'never',
    422,
    'The contract threw: it refuses the transaction. Nothing was written.',
    'The message is the contract’s own.',
  ),
  CONTRACT_FUNCTION_UNKNOWN: entry(
    'never',
    404,
    'The contract has no such function.',
    'See `org.hyperledger.fabric:GetMetadata` of the contract.',
  ),
  CONTRACT_TIMEOUT: entry(
    'never',
    422,
    'The call used more CPU time than the limit.',
    'Make the call cheaper or raise `contractCpuMsMax`.',
  ),
  CONTRACT_MEMORY: entry(
    'never',
    422,
    'The call used more memory than the limit.',
    'Use less, or raise `contractHeapMiBMax` or `contractBufferBytesMax`.',
  ),
  CONTRACT_CRASHED: entry(
    'never',
    422,
    'The contract process ended while the call ran.',
    'Look for aborts and unhandled rejections in the contract.',
  ),
  CONTRACT_NONDETERMINISTIC: entry(
    'never',
    422,
    'The contract used something that has no place in a deterministic call.',
    'Use the transaction’s timestamp and arguments only.',
  ),
  CONTRACT_UNSUPPORTED: entry(
    'never',
    422,
    'The contract used a part of Fabric’s contract API that Daybook does not have.',
    'See the list of differences in `docs/contracts.md`.',
  ),
  // executor
  TRANSACTION_CONFLICT: entry(
    'same',
    409,
    'The transaction kept conflicting with others until its deadline.',
    'Send it again.',
  ),
  TRANSACTION_EXPIRED: entry(
    'never',
    408,
    'The timestamp lies outside the channel’s transaction lifetime.',
    'Make a new transaction; check the clock.',
  ),
  CLOCKS_APART: entry(
    'same',
    503,
    'The timestamp lies outside the channel’s transaction lifetime by this node’s clock, which the log does not bear out either.',
    'Set the clock of the sender or of the node; until then another node may take it.',
  ),
  TRANSACTION_UNKNOWN: entry(
    'same',
    404,
    'No transaction of that id is known (yet) to this node.',
    'Wait for it, or check the id.',
  ),
  TRANSACTION_INVALID: entry(
    'never',
    422,
    'Replay found the record invalid; `details.reason` says why.',
    'See the reason.',
  ),
  OUTCOME_UNKNOWN: entry(
    'same',
    504,
    'No answer came before the deadline; the transaction may still commit.',
    'Look it up by its transaction id before you send a new one.',
  ),
  OVERLOADED: entry(
    'same',
    429,
    'A bounded queue is full; `details.limit` says which.',
    'Send the same bytes again a little later.',
  ),
  NOT_ENDORSABLE: entry(
    'never',
    422,
    'The call cannot be endorsed and signed singly; `details.reason` says why.',
    'Sign in batches, or ask a node that makes blocks.',
  ),
  ENDORSEMENT_STALE: entry(
    'refresh',
    409,
    'What the transaction read has changed since it was endorsed; it did not take effect.',
    'Have it executed and endorsed again, as a new transaction.',
  ),
  ENDORSEMENT_UNKNOWN: entry(
    'refresh',
    404,
    'The node holds no endorsed transaction of that id: it waited too long, or another node has it.',
    'Look the transaction up if it may have been sent before; else have it endorsed again.',
  ),
  // blocks
  PROOF_NOT_READY: entry(
    'refresh',
    503,
    'The state has moved on since the last block, which is what proofs are made for.',
    'Ask again after the next block.',
  ),
  BULK_ROWS_GONE: entry(
    'never',
    500,
    'A chain that is made anew needs the rows of a bulk update that is long over.',
    'Among three nodes or more the node restores itself; else stop it and remove its directories `state` and `chain/tree`: both are made again from the log.',
  ),
  NODE_DIVERGED: entry(
    'same',
    503,
    'The node’s state is not what the majority of nodes has; it restores itself, or has halted.',
    'Clients go on at another node by themselves; `daybook status` shows how far the node is.',
  ),
  BLOCK_MISMATCH: entry(
    'never',
    500,
    'A stored block is not the one that the log gives under its number.',
    'Compare with another node; remove the damaged block files to have them made again.',
  ),
  // replication
  CURSOR_INVALID: entry(
    'never',
    400,
    'The cursor was not made by this network for this follower and channel.',
    'Pull without a cursor: the follower is filled anew.',
  ),
  FOLLOWER_REFILL: entry(
    'refresh',
    410,
    'The changes after this cursor cannot be delivered one by one; `details.reason` says why.',
    'Fill the copy again from a scan; `daybook follow` does so by itself.',
  ),
  PAGE_ENCRYPTED: entry(
    'never',
    422,
    'A page of changes cannot be opened with any key that the follower has, or is bound to another follower or range.',
    'Give the follower the private key whose public half it sent.',
  ),
  PROCESSOR_FAILED: entry(
    'never',
    422,
    'The contents processor threw on a change, or made rows of an undeclared form.',
    'Correct the processor; `details` names the change. Policies `skip` and `park` go on without it.',
  ),
  SINK_UNAVAILABLE: entry(
    'same',
    503,
    'The system that a follower writes to cannot be reached or has no room now.',
    'Nothing is lost; the follower tries again by itself.',
  ),
  SINK_REFUSED: entry(
    'never',
    422,
    'The system that a follower writes to refuses a change.',
    'See the cause; correct processor or schema, or choose the policy `skip` or `park`.',
  ),
  SINK_FENCED: entry(
    'refresh',
    409,
    'Another process moved the cursor of this follower meanwhile.',
    'Run one process for each follower.',
  ),
  SOURCE_UNAVAILABLE: entry(
    'same',
    503,
    'The database that changes come from cannot be reached now.',
    'Look at the message. Nothing is lost; a capture that runs tries again by itself.',
  ),
  REGISTRY_REFUSED: entry(
    'never',
    422,
    'A federated registry refuses an operation; `details.uddi` is the error code of UDDI.',
    'See the message: it names the key and who has it.',
  ),
  // node, cli
  CONFIG_INVALID: entry(
    'never',
    400,
    'A configuration value is missing or wrong.',
    'Correct the value that the message names.',
  ),
  USAGE: entry('never', 400, 'The command line is not understood.', 'See `--help`.'),
  NOT_FOUND: entry('never', 404, 'The named thing does not exist.', 'Check the name.'),
} as const satisfies Record<string, ErrorCatalogEntry>;

/** The literal codes of all Daybook errors. */
export type ErrorCode = keyof typeof errorCatalog;
