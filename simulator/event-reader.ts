import { isDaybookError, toDaybookError } from '../src/base/index.ts';
import { type ContractEvent, connect, type Transport } from '../src/client/index.ts';
import { addressOf, asPosition, positionOf } from '../src/model/index.ts';
import type { Cluster } from './cluster.ts';
import { contractName } from './contracts.ts';
import { simulatedSigner } from './identity.ts';
import type { Announced } from './ledger-model.ts';
import { SimTransport } from './sdk-transport.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

const restartMs = 100;
const trimmedPauseMs = 20;
/** How often it leaves its loop by itself, and begins again where it was. */
const reopenShare = 0.02;
/** Longer than a gateway has patience with a reader, as it is simulated. */
const stallMs = 900;

/**
 * A program that follows the contract's events: each of a valid record must come once, in log order,
 * whatever happens to nodes, network and to itself. It keeps the place up to which it has read.
 */
export class EventReader {
  readonly name: string;
  readonly #cluster: Cluster;
  /** Name of the events that it wants; `undefined`: all. */
  readonly #event: string | undefined;
  readonly #pauseMsMax: number;
  readonly #stallShare: number;
  readonly #killMsMax: number;
  #starts = 0;
  #isHealed = false;
  /** Where it goes on; `undefined`: with what is new, and it has not heard where that begins. */
  #next: number | undefined;
  /** What of all that was announced it has looked at. */
  #seen = 0;
  /** Where its last stream was. */
  #gateway: string | undefined;

  constructor(cluster: Cluster, number: number) {
    const { edge } = cluster;
    this.#cluster = cluster;
    this.name = `reader${number}`;
    this.#event = edge.pick([undefined, undefined, 'e1']);
    this.#next = edge.pick([0, 0, undefined]);
    this.#pauseMsMax = edge.pick([0, 0, 10, 40]);
    this.#stallShare = edge.pick([0, 0.01, 0.05]);
    this.#killMsMax = edge.pick([300, 1_000, 100_000]);
  }

  start(): void {
    const { world } = this.#cluster;
    const process = world.spawn(this.name, `${this.name}.${this.#starts++}`);
    this.#run(process).catch((error: unknown) => world.fail(error));
    this.#killLater(process);
  }

  heal(): void {
    this.#isHealed = true;
  }

  /** It has had everything that there is for it. */
  get isCaughtUp(): boolean {
    return this.#starts === 0 || (this.#next !== undefined && this.#expected() === undefined);
  }

  #killLater(process: SimProcess): void {
    const { world, edge } = this.#cluster;
    world.after(undefined, edge.between(20, this.#killMsMax) * 1000, 'kill', () => {
      if (this.#isHealed || !process.alive) return;
      world.note(`${this.name} is killed`);
      world.happened('client: a reader of events is killed');
      world.kill(process);
      world.after(undefined, restartMs * 1000, 'restart', () => this.start());
    });
  }

  async #run(process: SimProcess): Promise<void> {
    const { world } = this.#cluster;
    for (;;) {
      try {
        await this.#follow(process);
      } catch (thrown) {
        if (!isDaybookError(thrown, 'LOG_TRIMMED')) throw thrown;
        this.#trimmed(thrown.details);
        await world.sleep(process, trimmedPauseMs * 1000);
      }
      world.happened('client: a reader of events comes back to where it was');
    }
  }

  /** Follows for a while. */
  async #follow(process: SimProcess): Promise<void> {
    const { world, network, config, nodes, mutant, edge } = this.#cluster;
    const io = simIo(world, process, new SimDisk(world), network);
    const transport = new SimTransport(io);
    const client = await connect({
      gateways: nodes.map((node) => `http://${node.name}:80`),
      channel: config.channel,
      signer: simulatedSigner,
      io,
      transport: this.#watch(mutant.reader?.(transport) ?? transport),
    });
    const events = client.events({
      contract: contractName,
      ...(this.#event === undefined ? {} : { event: this.#event }),
      ...(this.#next === undefined ? {} : { from: this.#next }),
    });
    for await (const event of events) {
      this.#take(event);
      if (this.#isHealed) continue;
      if (this.#pauseMsMax > 0) {
        await world.sleep(process, (1 + edge.below(this.#pauseMsMax)) * 1000);
      }
      if (edge.happens(this.#stallShare)) await world.sleep(process, stallMs * 1000);
      if (edge.happens(reopenShare)) break;
    }
    await client.close({ now: true });
  }

  /** The same transport; a stream of what is new begins where its first line says. */
  #watch(transport: Transport): Transport {
    const { world } = this.#cluster;
    const begin = (line: string): void => {
      const { type, position } = JSON.parse(line) as { type: string; position: number };
      if (type !== 'error') this.#next ??= type === 'event' ? position : position + 1;
    };
    const told = (line: string): void => {
      if (!line.includes('eventStallMsMax')) return;
      world.happened('client: a reader of events is cut off for its slowness');
    };
    const opens = (gateway: string): void => {
      if (this.#gateway !== undefined && this.#gateway !== gateway) {
        world.happened('client: an event stream goes on at another node');
      }
      this.#gateway = gateway;
    };
    return {
      send: (...question) => transport.send(...question),
      post: (...question) => transport.post(...question),
      getJson: (...question) => transport.getJson(...question),
      lines: async function* (gateway, ...question) {
        try {
          for await (const line of transport.lines(gateway, ...question)) {
            opens(gateway);
            begin(line);
            told(line);
            yield line;
          }
        } catch (error) {
          const { limit } = toDaybookError(error).details;
          if (limit === 'eventSubscribersMax') {
            world.happened('client: a subscription meets its limit');
          }
          throw error;
        }
      },
      close: () => transport.close(),
    };
  }

  /** The next that it must be told; `undefined`: there is none yet. */
  #expected(): Announced | undefined {
    const { announced } = this.#cluster.oracle.ledger;
    for (; this.#seen < announced.length; this.#seen++) {
      const next = announced[this.#seen] as Announced;
      const isWanted = this.#event === undefined || this.#event === next.name;
      if (isWanted && next.position >= (this.#next ?? 0)) return next;
    }
    return undefined;
  }

  #take({ position, txId, contract, event, payload, timestampMs }: ContractEvent): void {
    const expected = this.#expected();
    if (expected === undefined) this.#wrong(`is told of ${event} at ${position}: there is none`);
    const isSame =
      position === expected.position &&
      txId === expected.txId &&
      contract === contractName &&
      event === expected.name &&
      payload.latin1Slice() === expected.payload &&
      timestampMs === expected.timestampMs;
    if (!isSame) {
      const text = payload.latin1Slice();
      this.#wrong(
        `is told of ${event} (${text}) at ${position}, not of ${expected.name} (${expected.payload}) at ${expected.position}`,
      );
    }
    this.#cluster.world.happened('client: an event arrives');
    this.#next = position + 1;
  }

  /** What it lacks is in blocks and snapshots only: it goes on behind that. */
  #trimmed({ startAddress }: Readonly<Record<string, unknown>>): void {
    const { world, trimmed } = this.#cluster;
    const address = addressOf(asPosition(this.#next ?? 0));
    if (address >= trimmed.before) {
      this.#wrong(`is told that ${address} is trimmed; that is so before ${trimmed.before}`);
    }
    world.happened('client: events are trimmed');
    this.#next =
      typeof startAddress === 'number' ? positionOf(startAddress as typeof address, 0) : undefined;
  }

  #wrong(what: string): never {
    throw new SimulationFailure('correctness', `client: ${this.name} ${what}`);
  }
}
