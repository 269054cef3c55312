import { DaybookError, isDaybookError, toDaybookError } from '../src/base/index.ts';
import { rpcPeer } from '../src/io/index.ts';
import { openEmbeddedLog, type SharedLog, serveLog, type Token } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { startTicker } from '../src/node/ticker.ts';
import {
  type LocalSequencer,
  type Sequencer,
  serveSequencer,
  startSequencer,
} from '../src/sequencer/index.ts';
import type { Cluster } from './cluster.ts';
import { foundingEntry } from './founding.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { strikingSequencer } from './striking-sequencer.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** Where executors find the log. */
export const logAddress = 'log:1';

const restartMs = 100;

/** The machine with the embedded log and the sequencer; its process is started again when it ends. */
export class LogMachine {
  readonly disk: SimDisk;
  readonly #cluster: Cluster;
  #process: SimProcess | undefined;
  #log: SharedLog | undefined;
  #sequencers: LocalSequencer[] = [];
  /** Share of requests that still reach the sequencer before the last one. */
  #lateShare = 0;
  #starts = 0;
  #starting = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.disk = new SimDisk(cluster.world);
  }

  /** The log as the running process has it; `undefined` while there is none. */
  get log(): SharedLog | undefined {
    return this.#process?.alive === true ? this.#log : undefined;
  }

  /** Keys that each of its sequencers remembers. */
  get windowKeys(): number[] {
    return this.#sequencers.map((sequencer) => sequencer.metrics().windowKeys);
  }

  get process(): SimProcess | undefined {
    return this.#process;
  }

  /** Starts the process unless it runs or is about to. */
  start(): void {
    if (this.#starting || this.#process?.alive === true) return;
    this.#starting = true;
    const process = this.#cluster.world.spawn('log', `log.${this.#starts++}`);
    this.#process = process;
    process.onDeath.push(() => {
      this.#log = undefined;
      this.#sequencers = [];
      this.#starting = false;
    });
    this.#boot(process).then(
      () => {
        this.#starting = false;
      },
      (error: unknown) => {
        const { code, message } = toDaybookError(error);
        this.#cluster.world.note(`${process.name} does not start: ${message}`);
        if (code === 'LOG_DAMAGED' || code === 'INTERNAL') {
          this.#cluster.world.fail(
            new SimulationFailure('correctness', `the log does not open: ${message}`, error),
          );
        }
        this.crash(false);
      },
    );
  }

  /** Ends the process, or the whole machine, and starts it again a little later. */
  crash(power: boolean): void {
    const { world } = this.#cluster;
    if (this.#process !== undefined) {
      world.note(`${this.#process.name} ${power ? 'loses power' : 'is killed'}`);
      world.kill(this.#process);
    }
    if (power) {
      world.happened('process: power failure');
      this.disk.powerFailure();
    }
    this.#starting = false;
    world.after(undefined, restartMs * 1000, 'restart', () => this.start());
  }

  /**
   * A bit rots in a file that the log can make again, an index, while its process is away. Rot in
   * the only copy of an entry is not survivable: the log reports it.
   */
  rot(): void {
    const path = this.disk.rot(/\.index$/);
    if (path === undefined) return;
    this.#cluster.world.note(`a bit of ${path} rots`);
    this.crash(false);
  }

  /** Another sequencer takes over; the one before goes on answering some of its callers. */
  async failOver(): Promise<void> {
    const { log, process } = this;
    if (log === undefined || process === undefined) return;
    try {
      const { windowKeysMax } = this.#cluster.bounds;
      const next = await startSequencer({ log, windowKeysMax });
      this.#cluster.world.happened('sequencer: a failover');
      this.#cluster.world.note(`${process.name}: another sequencer takes over`);
      this.#sequencers = [...this.#sequencers.slice(-1), next];
      this.#lateShare = this.#cluster.world.chance.pick([0.1, 0.3, 0.5]);
    } catch (error) {
      if (!isDaybookError(error)) throw error;
    }
  }

  /** The last sequencer answers everybody. */
  heal(): void {
    this.#sequencers = this.#sequencers.slice(-1);
  }

  async #boot(process: SimProcess): Promise<void> {
    const { world, network, mutant, config, repairs, retention } = this.#cluster;
    const io = simIo(world, process, this.disk, network);
    const store = await openEmbeddedLog({
      io,
      directory: '/log',
      segmentBytesMin: 64 * 1024,
      segmentBytesMax: 512 * 1024,
      recentBytesMax: 256 * 1024,
    });
    const log = mutant.log?.(store, this.#cluster) ?? store;
    if ((await log.tail()) === 0) {
      const founding = foundingEntry(config, io);
      await log.write({ epoch: await log.epoch(), address: asAddress(0) }, founding);
    }
    const { windowKeysMax } = this.#cluster.bounds;
    this.#sequencers = [await startSequencer({ log, windowKeysMax })];
    this.#log = log;
    const intervalMs = repairs?.tickIntervalMs ?? retention?.chains?.tickIntervalMs;
    if (intervalMs !== undefined) {
      const grant = (): Token => (this.#sequencers.at(-1) as LocalSequencer).grant();
      startTicker({ io, log, sequencer: { grant }, writer: 'network', intervalMs });
    }
    world.note(`${process.name} runs, tail ${await log.tail()}`);
    await io.network.listen(logAddress, (connection) => {
      const peer = rpcPeer(connection);
      serveLog(this.#guarded(log, process), peer);
      const granting = strikingSequencer(this.#cluster, this.#sequencer());
      serveSequencer(mutant.sequencer?.(granting, this.#cluster) ?? granting, peer);
    });
  }

  /** Sometimes asks a sequencer that was replaced already: the log must hold out (I3). */
  #sequencer(): Sequencer {
    return {
      request: (group) => {
        const late =
          this.#sequencers.length > 1 && this.#cluster.world.chance.happens(this.#lateShare);
        if (late) this.#cluster.world.happened('sequencer: an old one is asked');
        const sequencer = late ? this.#sequencers[0] : this.#sequencers.at(-1);
        if (sequencer === undefined) throw new DaybookError('CLOSED', 'no sequencer');
        return sequencer.request(group);
      },
    };
  }

  /** A log whose sync failed must be opened again: whoever runs it restarts the process. */
  #guarded(log: SharedLog, process: SimProcess): SharedLog {
    const broken = (error: unknown): never => {
      if (isDaybookError(error, 'IO_FAILED')) {
        this.#cluster.world.after(process, 0, 'broken log', () => this.crash(false));
      }
      throw error;
    };
    return {
      tail: () => log.tail(),
      epoch: () => log.epoch(),
      start: () => log.start(),
      read: (address) => log.read(address),
      follow: (from, signal) => log.follow(from, signal),
      trim: (before) => log.trim(before),
      seal: (epoch) => log.seal(epoch).catch(broken),
      write: (token, bytes) => log.write(token, bytes).catch(broken),
      fill: (address) => log.fill(address).catch(broken),
      close: () => log.close(),
    };
  }
}
