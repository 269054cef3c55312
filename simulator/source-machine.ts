import { toDaybookError } from '../src/base/index.ts';
import { connect } from '../src/client/index.ts';
import { captureOutbox } from '../src/replication/index.ts';
import type { Cluster } from './cluster.ts';
import { contractName } from './contracts.ts';
import { simulatedSigner } from './identity.ts';
import { SimTransport } from './sdk-transport.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SourceModel } from './source-model.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

const restartMs = 100;
const attemptMs = 1_000;
/** No batch may be larger than all that an executor takes where there is little room. */
const batchCount = 20;

/** A machine that brings the changes of an outside database into the ledger, over the library. */
export class SourceMachine {
  readonly name: string;
  readonly model: SourceModel;
  readonly #cluster: Cluster;
  #process: SimProcess | undefined;
  #starts = 0;

  constructor(cluster: Cluster, number: number) {
    this.#cluster = cluster;
    this.name = `source${number}`;
    this.model = new SourceModel(cluster.world);
  }

  start(): void {
    const { world } = this.#cluster;
    const process = world.spawn(this.name, `${this.name}.${this.#starts++}`);
    this.#process = process;
    this.#capture(process).catch((thrown: unknown) => {
      const { code, message } = toDaybookError(thrown);
      // Nothing that the application does is refused for good.
      world.fail(
        new SimulationFailure('correctness', `source: ${this.name} ended: ${code} ${message}`),
      );
    });
  }

  /** Ends the process and starts it again a little later. */
  crash(): void {
    const { world } = this.#cluster;
    if (this.#process?.alive !== true) return;
    world.note(`${this.name} is killed`);
    world.happened('source: a capture is killed');
    world.kill(this.#process);
    world.after(undefined, restartMs * 1000, 'restart', () => this.start());
  }

  heal(): void {
    this.model.failures = 0;
  }

  async #capture(process: SimProcess): Promise<void> {
    const { world, network, config, nodes, mutant } = this.#cluster;
    const { chance } = world;
    const io = simIo(world, process, new SimDisk(world), network);
    const ledger = await connect({
      gateways: nodes.map((node) => `http://${node.name}:80`),
      channel: config.channel,
      signer: simulatedSigner,
      attemptMs,
      batchCount,
      deadlineMs: chance.pick([500, 5_000]),
      io,
      transport: new SimTransport(io),
    });
    const outbox = this.model.of(process);
    await captureOutbox({
      io,
      open: async () => mutant.source?.outbox?.(outbox, this.#cluster) ?? outbox,
      source: this.name,
      ledger: mutant.source?.ledger?.(ledger) ?? ledger,
      contract: contractName,
      pollMs: 20,
      rowsMax: chance.pick([2, 10, 2_000]),
      onEvent: (text) => world.note(`${this.name}: ${text}`),
    }).ended;
  }
}
