/**
 * What must have happened in the worlds that a set of seeds makes, or the seeds prove nothing about
 * it. By the sentence of the promise that it belongs to.
 */
export const happenings = [
  // Network. One connection keeps order and repeats nothing, as TCP does; between two connections
  // messages overtake each other, and what is sent again arrives twice.
  'network: a slow link',
  'network: a frame is lost with its connection',
  'network: a connection is reset',
  'network: a frame overtakes an older one',
  'network: a batch arrives twice',
  'network: a batch comes again much later',
  'network: a one-way partition',
  'network: a two-way partition',
  'network: a frame waits for a partition to end',
  'network: a machine is clogged',
  // Disks.
  'disk: a slow sync',
  'disk: a sync fails',
  'disk: full',
  'disk: a torn write',
  'disk: an unsynced write is lost',
  'disk: a bit rots',
  // Processes and clocks.
  'process: killed',
  'process: killed with a token in hand',
  'process: cut off with a token in hand',
  'process: power failure',
  'process: paused',
  'process: contracts killed',
  'clock: a step forward',
  'clock: a step back',
  'clock: ahead by more than a transaction lives',
  // The model of etcd.
  'etcd: an answer is lost',
  'etcd: a proposal dies with its leader',
  'etcd: a new leader',
  'etcd: a member is killed',
  'etcd: a lease ends early',
  'etcd: a lease expires',
  'etcd: a member without a way to the leader',
  'etcd: a compaction',
  'etcd: a watch is cancelled by a compaction',
  'etcd: a transaction fails its comparison',
  // Its space.
  'etcd: no space',
  'etcd: a put is done and refused for want of space',
  'etcd: others find no space',
  'etcd: defragmented',
  'etcd: a defragmentation fails',
  'etcd: a defragmentation is cut short',
  'etcd: the gate is shut',
  'etcd: the gate is put back',
  'etcd: whoever shut the gate is killed',
  'log: OVERLOADED for space',
  // Log and sequencer.
  'log: a hole is filled',
  'log: an address is taken',
  'log: a sealed epoch refuses a write',
  'log: the layout changes',
  'sequencer: a failover',
  'sequencer: an old one is asked',
  'sequencer: a node without one commits',
  'sequencer: a conflict is refused',
  // A log that is kept short.
  'log: trimmed',
  'log: waits for a node that makes blocks',
  'snapshot: written',
  'snapshot: fetched from another node',
  'snapshot: a node goes on from one',
  'snapshot: a damaged one is refused',
  'snapshot: a node loses its disk',
  'snapshot: a node was away for longer than the log is kept',
  'snapshot: a node joins late',
  'snapshot: an outcome without its result',
  // Nodes that compare their states and mend them.
  'repair: a row rots',
  'repair: a changed row is found',
  'repair: a missing row is found',
  'repair: an added row is found',
  'repair: a chain goes wrong',
  'repair: a node is outvoted',
  'repair: nobody to believe yet',
  'repair: no majority signs',
  'repair: a state is restored',
  'repair: a node agrees and serves again',
  'repair: a node halts',
  'repair: a person replaces a node',
  // What clients do.
  'workload: mode transaction',
  'workload: mode batch',
  'workload: mode interleaved',
  'workload: a transfer',
  'workload: a range is read',
  'workload: a range is written',
  'workload: a bulk update as data',
  'workload: a bulk update row by row',
  'workload: an upgrade',
  'workload: an ordering key',
  'workload: full load',
  'replay: a key was changed meanwhile',
  'replay: a range was changed meanwhile',
  'replay: a duplicate',
  'limits: a refusal names its limit',
  // Clients that use the library.
  'client: calls travel together',
  'client: a transaction is sent again',
  'client: it asks what became of a lost batch',
  'client: a node catches up with what it was told',
  'client: a call is evaluated',
  'client: an outcome stays unknown',
  // Of them, those that sign every call by itself.
  'client: a call is signed singly',
  'client: a prepared call is sent again',
  'client: a call that was endorsed is stale',
  'client: a call is prepared again at another node',
  'client: a node forgot what it had prepared',
  'client: others know what became of a single call',
  'client: prepared calls meet their limit',
  // Programs that follow events.
  'client: an event arrives',
  'client: an event of an invalid record is left out',
  'client: an event stream goes on at another node',
  'client: an event stream is opened at a node that lags',
  'client: a reader of events is killed',
  'client: a reader of events comes back to where it was',
  'client: a reader of events is cut off for its slowness',
  'client: a subscription meets its limit',
  'client: events are trimmed',
  // Posted from the log.
  'blocks: a generator is killed',
  'blocks: a generator outlives its node',
  'blocks: files are torn by a power failure',
  'blocks: saved',
  'blocks: made again and compared',
  'blocks: goes on in the middle of one',
  'blocks: rows of a bulk update are kept until its switch',
  'blocks: a chain is verified from its files',
  'blocks: a node lacks what is trimmed',
  'blocks: adopted from another node',
  'blocks: a chain goes on behind adopted blocks',
  'blocks: adopted while a bulk update is under way',
  'blocks: all nodes lose power at once',
  'blocks: a stored block rots',
  'blocks: an index rots',
  'blocks: one that rotted is refused',
  'blocks: mended as they were',
  'blocks: mended with blocks of another node',
  'blocks: mended from the log',
  'blocks: a donor lies',
  'blocks: what a donor gave is refused',
  'follower: a page is applied',
  'follower: filled anew',
  'follower: what it lacks is trimmed',
  'follower: its transaction fails',
  'follower: its transaction succeeds without an answer',
  // Captured from outside.
  'source: a capture is killed',
  'source: its database does not answer',
  'source: rows leave the outbox without an answer',
  'source: a transaction is rolled back',
  'source: a late commit of early rows',
  'federation: a change takes effect',
  'federation: a change is refused',
  'federation: a node copies another',
  'federation: a record arrives again',
] as const;

/** Something that happens in a world; see {@link happenings}. */
export type Happening = (typeof happenings)[number];

/** How often each happened; what did not happen is missing. */
export type Coverage = Partial<Record<Happening, number>>;

/** Adds one world's counts to those of others. */
export function addCoverage(total: Coverage, more: Coverage): void {
  for (const what of happenings) {
    const count = more[what];
    if (count !== undefined) total[what] = (total[what] ?? 0) + count;
  }
}

/** What never happened. */
export function missingFrom(coverage: Coverage): Happening[] {
  return happenings.filter((what) => coverage[what] === undefined);
}
