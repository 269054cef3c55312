import { join } from 'node:path';
import { DaybookError, isDaybookError, limits } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { checkSnapshot, openState, restoreSnapshot, type StateSettings } from '../state/index.ts';
import { downloadSnapshot } from './download.ts';
import type { Member } from './members.ts';
import { remoteOrders } from './private-service.ts';

const pieceBytes = 4 * 1024 * 1024;
const namePattern = /^snapshot-(\d+)$/;
/** The one before the newest stays, for those who are fetching it. */
const kept = 2;
/** File with the address that the saved blocks reach (`BlockGenerator.savedTo`), as was last noted. */
const coveredName = 'covered';

/**
 * The snapshot files of a node, by the first address that is not in them. A node that makes blocks
 * can go on from a snapshot only if its blocks reach it: what lies between nobody might have blocks
 * of any more. So of such a node the newest that its saved blocks reach is kept, too, and the one
 * that they will reach next.
 */
export class SnapshotFiles {
  readonly #disk: Io['disk'];
  readonly #directory: string;
  #addresses: number[] = [];
  #covered: number;

  private constructor(disk: Io['disk'], directory: string, covered: number) {
    this.#disk = disk;
    this.#directory = directory;
    this.#covered = covered;
  }

  /** @param chain - the node makes blocks. */
  static async open(
    { disk }: Pick<Io, 'disk'>,
    directory: string,
    chain: boolean,
  ): Promise<SnapshotFiles> {
    await disk.makeDirectory(directory);
    const noted = chain ? await disk.readFile(join(directory, coveredName)) : undefined;
    const covered = chain ? Number(noted?.toString('utf8') ?? 0) : Number.POSITIVE_INFINITY;
    const files = new SnapshotFiles(disk, directory, covered);
    files.#addresses = (await disk.list(directory))
      .flatMap((name) => namePattern.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
    return files;
  }

  /** The newest; 0: there is none. */
  get newest(): Address {
    return asAddress(this.#addresses.at(-1) ?? 0);
  }

  /** The newest that saved blocks reach; 0: there is none. */
  get held(): Address {
    return this.#newestUpTo(this.#covered);
  }

  /** The oldest that they do not reach. */
  get next(): Address | undefined {
    const next = this.#addresses.find((address) => address > this.#covered);
    return next === undefined ? undefined : asAddress(next);
  }

  /** Notes, durably, that the saved blocks reach an address. */
  async cover(address: Address): Promise<void> {
    if (this.#newestUpTo(address) <= this.held) return;
    const bytes = Buffer.from(String(address));
    await this.#disk.writeFile(join(this.#directory, coveredName), bytes);
    this.#covered = address;
  }

  /** The newest that blocks reach that are saved to an address; 0: there is none. */
  heldBy(saved: Address): Address {
    return this.#newestUpTo(Math.min(saved, this.#covered));
  }

  #newestUpTo(address: number): Address {
    return asAddress(this.#addresses.findLast((one) => one <= address) ?? 0);
  }

  /** Path of a file; it need not be there. */
  path(address: number): string {
    return join(this.#directory, `snapshot-${address}`);
  }

  /** Takes a new file in that was written to `path`, and removes those that nobody needs. */
  async add(path: string, address: Address): Promise<void> {
    await this.#disk.rename(path, this.path(address));
    this.#addresses = [...this.#addresses.filter((other) => other !== address), address].sort(
      (a, b) => a - b,
    );
    const { held, next } = this;
    const newest = this.#addresses.slice(-kept);
    const needed = (one: number): boolean => one === held || one === next || newest.includes(one);
    const old = this.#addresses.filter((one) => !needed(one));
    this.#addresses = this.#addresses.filter(needed);
    for (const one of old) await this.#disk.remove(this.path(one));
  }

  /** Removes a file that turned out to be damaged. */
  async remove(address: Address): Promise<void> {
    this.#addresses = this.#addresses.filter((other) => other !== address);
    await this.#disk.remove(this.path(address));
  }

  /** See {@link NodeOrders.snapshotPiece}. */
  async piece(address: Address, offset: number): Promise<Uint8Array> {
    if (!this.#addresses.includes(address)) {
      throw new DaybookError('NOT_FOUND', `no snapshot at ${address}`, { details: { address } });
    }
    const file = await this.#disk.open(this.path(address));
    try {
      const bytes = Buffer.allocUnsafe(pieceBytes);
      return bytes.subarray(0, await file.read(bytes, offset));
    } finally {
      await file.close();
    }
  }
}

/** What {@link catchUpBySnapshot} needs. */
export interface CatchUpOptions {
  readonly io: Pick<Io, 'disk' | 'network' | 'random' | 'timers'>;
  readonly log: Pick<SharedLog, 'start' | 'tail'>;
  readonly channel: string;
  readonly stateDirectory: string;
  readonly snapshots: SnapshotFiles;
  /** The node makes blocks. */
  readonly chain: boolean;
  /** The registered nodes, of any channel. */
  readonly members: () => Promise<readonly Member[]>;
  /** See `limits.joinReplayEntriesMax`, the default. */
  readonly replayEntriesMax?: number;
  /** As the state will be opened with. */
  readonly stateSettings?: StateSettings;
  readonly onEvent: (text: string) => void;
}

/** Which snapshots would do. */
interface Wanted {
  /** It holds everything before this address. */
  readonly least: Address;
  /** Without one the state cannot go on. */
  readonly needed: boolean;
}

/**
 * Sees to it that the state can go on with the log: when entries that it lacks are trimmed, it is
 * made anew out of a snapshot, one of its own or another node's. A state that is new begins with
 * another node's snapshot, too, if one is offered and the log is long. A snapshot of its own that is
 * damaged is removed, and another one taken.
 *
 * @throws {DaybookError} `LOG_TRIMMED` when nobody has a snapshot that reaches the log.
 */
export async function catchUpBySnapshot(options: CatchUpOptions): Promise<void> {
  const { io, channel, stateDirectory, snapshots, stateSettings, onEvent } = options;
  const wanted = await wantedSnapshot(options);
  if (wanted === undefined) return;
  const { least, needed } = wanted;
  // The blocks before the snapshot have to come from somebody, too.
  const suits = ({ chain }: Member): boolean => needed || chain === true || !options.chain;
  for (;;) {
    const own = ownSnapshot(options, wanted);
    // Its blocks do not reach what it has: the log, which is whole, gives all of them.
    if (own === undefined && !needed && options.chain && snapshots.newest > 0) return;
    const chosen = own ?? (await fetchSnapshot(options, least, suits));
    if (chosen === undefined) {
      if (!needed) return;
      throw new DaybookError('LOG_TRIMMED', `no node has a snapshot that reaches ${least}`, {
        details: { start: least },
      });
    }
    const path = snapshots.path(chosen);
    try {
      await restoreSnapshot(io, path, stateDirectory, channel, stateSettings);
      onEvent(`the state was restored from a snapshot; it goes on at ${chosen}`);
      return;
    } catch (error) {
      if (!isDaybookError(error, 'SNAPSHOT_INVALID')) throw error;
      onEvent(`the snapshot at ${chosen} is refused: ${error.message}`);
      await snapshots.remove(chosen);
    }
  }
}

/**
 * The snapshot of its own that a node begins with: the newest, and of one that makes blocks the newest
 * that these reach. One ahead of them is taken only when the log has lost what lies between: then
 * others have the blocks.
 */
function ownSnapshot(
  { snapshots, chain }: CatchUpOptions,
  { least, needed }: Wanted,
): Address | undefined {
  const { held, newest } = snapshots;
  if (chain && held > 0 && (held >= least || !needed)) return held;
  return newest >= least && (needed || !chain) ? newest : undefined;
}

/** `undefined`: the state goes on without a snapshot. */
async function wantedSnapshot(options: CatchUpOptions): Promise<Wanted | undefined> {
  const { io, log, stateDirectory, stateSettings, onEvent } = options;
  const { replayEntriesMax = limits.joinReplayEntriesMax } = options;
  const [start, tail] = [await log.start(), await log.tail()];
  const isLong = tail > replayEntriesMax;
  if (start === 0 && !isLong) return undefined;
  const state = await openState({ io, directory: stateDirectory, ...stateSettings });
  const { nextAddress } = state;
  await state.close();
  if (nextAddress < start) {
    onEvent(`the log begins at ${start}, this state ends at ${nextAddress}: a snapshot is needed`);
    return { least: start, needed: true };
  }
  if (nextAddress > 0 || !isLong) return undefined;
  onEvent(`the log has ${tail} entries: a snapshot would save replaying them`);
  return { least: asAddress(tail - replayEntriesMax), needed: false };
}

/** Which one it has then; `undefined`: nobody that suits has one that reaches `least`. */
async function fetchSnapshot(
  options: CatchUpOptions,
  least: Address,
  suits: (member: Member) => boolean,
): Promise<Address | undefined> {
  const { io, channel, snapshots, onEvent } = options;
  const members = (await options.members())
    .filter((member) => member.channel === channel && suits(member))
    .sort((a, b) => (b.snapshot ?? 0) - (a.snapshot ?? 0));
  for (const { name, address } of members) {
    const node = remoteOrders(io, address);
    try {
      const wanted = await node.offerSnapshot();
      if (wanted < least) continue;
      const path = `${snapshots.path(wanted)}.fetching`;
      await downloadSnapshot(io, node, wanted, path);
      const { channel: of, nextAddress } = await checkSnapshot(io.disk, path);
      if (of !== channel || nextAddress !== wanted) {
        throw new DaybookError('SNAPSHOT_INVALID', `it is of ${of} at ${nextAddress}`);
      }
      await snapshots.add(path, wanted);
      onEvent(`fetched the snapshot at ${wanted} from ${name}`);
      return wanted;
    } catch (error) {
      if (!isDaybookError(error)) throw error;
      onEvent(`no snapshot from ${name}: ${error.message}`);
    }
  }
  return undefined;
}
