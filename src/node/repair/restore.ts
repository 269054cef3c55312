import { join } from 'node:path';
import { DaybookError, limits, toDaybookError } from '../../base/index.ts';
import {
  majorityClaim,
  majorityOf,
  ownRowsIn,
  type RootClaim,
  seedChain,
} from '../../blocks/index.ts';
import { type Io, pause, whileLocked } from '../../io/index.ts';
import { IdentityVerifier, positionOf } from '../../model/index.ts';
import {
  type Row,
  restoreSnapshot,
  type StateReader,
  type StateSettings,
  type Stores,
} from '../../state/index.ts';
import { downloadSnapshot } from '../download.ts';
import { askNode, type OtherNodes } from './other-nodes.ts';
import type { RepairDirectory, RepairRecord } from './repair-record.ts';
import { answers, validClaims } from './root-watch.ts';

/** Settings of {@link restoreFromMajority}. */
export interface RestoreOptions {
  readonly io: Pick<Io, 'disk' | 'timers' | 'random' | 'clock'>;
  readonly channel: string;
  readonly stateDirectory: string;
  readonly chainDirectory: string;
  /** As the state will be opened with. */
  readonly stateSettings: StateSettings;
  readonly stores: Stores;
  readonly others: OtherNodes;
  readonly files: RepairDirectory;
  /** How long to wait for a majority to sign the block that a snapshot ends with. */
  readonly claimsWaitMs: number;
  readonly signal: AbortSignal;
  readonly onEvent: (text: string) => void;
}

const pauseMs = 1_000;

/**
 * Makes the state anew out of another node's snapshot and builds the chain's tree from its rows,
 * which must lead to the state root that a majority has signed. Tries again and again, one node after
 * the other, until it succeeds or `signal` aborts.
 *
 * @returns the record as it is then.
 */
export async function restoreFromMajority(
  options: RestoreOptions,
  record: RepairRecord,
): Promise<RepairRecord> {
  const { io, files, signal, onEvent } = options;
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const restored = await restoreOnce(options, record, attempt);
      const done: RepairRecord = { ...restored, state: 'restored' };
      await files.write(done);
      return done;
    } catch (error) {
      const { code, message } = toDaybookError(error);
      onEvent(`the state could not be restored yet: ${code} ${message}`);
      await pause(io, pauseMs, { keepAlive: true });
    }
  }
  throw new DaybookError('CLOSED', 'the node was closed while its state was being restored');
}

async function restoreOnce(
  options: RestoreOptions,
  record: RepairRecord,
  attempt: number,
): Promise<RepairRecord> {
  const { io, others, files, channel, stateDirectory, chainDirectory, stores, onEvent } = options;
  const { disk } = io;
  const nodes = await others();
  const donor = nodes[attempt % Math.max(1, nodes.length)];
  if (donor === undefined) return await restoreAlone(options, record);
  const node = askNode(io, donor);
  const offer = await node.snapshot();
  const { claim, names } = await agreedClaim(options, record, offer.height);
  onEvent(`fetching the snapshot at ${offer.address} (block ${offer.height}) of ${donor.name}`);
  const path = join(files.path, 'snapshot');
  await downloadSnapshot(io, node, offer.address, path);
  const fresh = join(files.path, 'state');
  await restoreSnapshot(io, path, fresh, channel, options.stateSettings);
  await disk.remove(path);
  const reader = stores.openReader(fresh);
  let compared = record;
  try {
    await seedChain({
      disk,
      directory: chainDirectory,
      height: offer.height,
      address: offer.address,
      stateRoot: Buffer.from(claim.stateRoot, 'hex'),
      rows: rowsOf(reader),
      stores,
      digests: (from, count) => node.digests(from, count),
      block: (height) => node.block(height),
    });
    onEvent(`its rows are those of the state root ${claim.stateRoot.slice(0, 16)}: ${names}`);
    compared = await keepDifference(options, record, reader);
  } finally {
    reader.close();
  }
  await disk.remove(stateDirectory);
  await disk.rename(fresh, stateDirectory);
  return compared;
}

/** A network of one node has no other truth than its log: all is made again from there. */
async function restoreAlone(options: RestoreOptions, record: RepairRecord): Promise<RepairRecord> {
  const { io, stateDirectory, chainDirectory, onEvent } = options;
  onEvent('there is no other node: state and state tree are made again from the log');
  await whileLocked(io.disk, chainDirectory, async () => {
    await io.disk.remove(stateDirectory);
    await io.disk.remove(join(chainDirectory, 'tree'));
    await io.disk.remove(ownRowsIn(chainDirectory));
  });
  return record;
}

/** What a majority has signed about a height; nodes that are not there yet are waited for. */
async function agreedClaim(
  { io, others, claimsWaitMs }: RestoreOptions,
  record: RepairRecord,
  height: number,
): Promise<{ claim: RootClaim; names: string }> {
  const verifier = new IdentityVerifier(record.msps);
  const endMs = io.clock.monotonicMs() + claimsWaitMs;
  for (;;) {
    const nodes = await others();
    // Of a network of two only the other one is left to be believed.
    const needed = Math.min(majorityOf(nodes.length + 1), nodes.length);
    const statements = await answers(nodes.map((one) => askNode(io, one).statement(height)));
    const claims = validClaims(
      statements.filter((one) => one !== undefined),
      verifier,
    );
    const found = majorityClaim(claims, height, needed);
    if (found !== undefined) return { claim: found.claim, names: found.nodes.join(', ') };
    if (io.clock.monotonicMs() > endMs) {
      throw new DaybookError('TIMEOUT', `no majority has signed block ${height - 1}`);
    }
    await pause(io, pauseMs, { keepAlive: true });
  }
}

/** Rows of the old state that are not what they should have been: to be looked at by people. */
async function keepDifference(
  { stateDirectory, files, stores }: RestoreOptions,
  record: RepairRecord,
  right: StateReader,
): Promise<RepairRecord> {
  if (record.compared === true) return record;
  const compared: RepairRecord = { ...record, compared: true };
  // Noted first: reading a store that is damaged inside may end the process.
  await files.write(compared);
  const differing: object[] = [];
  try {
    const wrong = stores.openReader(stateDirectory);
    try {
      const end = positionOf(wrong.nextAddress(), 0);
      for (const row of rowsOf(right)) {
        if (differing.length >= limits.evidenceRowsMax) break;
        if (row.version >= end) continue;
        const old = wrong.get(row.key);
        if (old?.version === row.version && old.value === row.value) continue;
        differing.push({ right: plain(row), wrong: old && plain(old) });
      }
    } finally {
      wrong.close();
    }
  } catch (error) {
    differing.push({ error: toDaybookError(error).message });
  }
  await files.add(record.evidence, { 'differing-rows.json': differing });
  return compared;
}

function plain({ key, version, value }: Row): object {
  const text = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8');
  return { key: text(key).replace('\0', '/'), version, value: text(value) };
}

const pageRows = 1_000;

function* rowsOf(reader: StateReader): Generator<Row> {
  for (let start = ''; ; ) {
    const rows = reader.range(start, '', pageRows);
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pageRows) return;
    start = `${last.key}\0`;
  }
}
