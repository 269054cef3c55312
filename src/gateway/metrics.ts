import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { GatewayBackend } from './backend.ts';

/** The gateway's own numbers and those of its backends, in Prometheus' text form. */
export class GatewayMetrics {
  readonly #registry = new Registry();
  readonly #batches: Counter;
  readonly #transactions: Counter;
  readonly #committed: Counter;
  readonly #rejected: Counter;
  readonly #refused: Counter<'code'>;
  readonly #seconds: Histogram;

  /** @param gauges - numbers of the moment, by name in snake_case. */
  constructor(backends: readonly GatewayBackend[], gauges: Readonly<Record<string, () => number>>) {
    const registers = [this.#registry];
    const counter = (name: string, help: string): Counter =>
      new Counter({ name: `daybook_gateway_${name}`, help, registers });
    this.#batches = counter('batches_total', 'Batches admitted');
    this.#transactions = counter('transactions_total', 'Transactions admitted');
    this.#committed = counter('committed_total', 'Transactions answered as committed');
    this.#rejected = counter('rejected_total', 'Transactions answered as rejected');
    this.#refused = new Counter({
      name: 'daybook_gateway_errors_total',
      help: 'Requests answered with an error',
      labelNames: ['code'] as const,
      registers,
    });
    this.#seconds = new Histogram({
      name: 'daybook_gateway_batch_seconds',
      help: 'From the arrival of a batch to its last outcome',
      buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30],
      registers,
    });
    for (const [name, read] of Object.entries(gauges)) {
      new Gauge({
        name: `daybook_gateway_${name}`,
        help: name.replaceAll('_', ' '),
        registers,
        collect() {
          this.set(read());
        },
      });
    }
    const known = new Map<string, Gauge<'channel'>>();
    for (const backend of backends) {
      for (const key of Object.keys(backend.metrics())) {
        if (known.has(key)) continue;
        known.set(
          key,
          new Gauge({
            name: `daybook_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`,
            help: key,
            labelNames: ['channel'] as const,
            registers,
            collect() {
              for (const each of backends) {
                const value = each.metrics()[key];
                if (value !== undefined) this.set({ channel: each.channel }, value);
              }
            },
          }),
        );
      }
    }
  }

  admitted(transactions: number): void {
    this.#batches.inc();
    this.#transactions.inc(transactions);
  }

  settled(committed: number, rejected: number, seconds: number): void {
    this.#committed.inc(committed);
    this.#rejected.inc(rejected);
    this.#seconds.observe(seconds);
  }

  refused(code: string): void {
    this.#refused.inc({ code });
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
