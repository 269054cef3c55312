/*
 * Chooses gateways: least outstanding transactions first; one that failed rests for a while, longer
 * each time. Time comes in, so that it can be tested without any passing.
 */

const restMsMin = 50;
const restMsMax = 5_000;

interface GatewayLoad {
  readonly gateway: string;
  outstanding: number;
  failures: number;
  restsUntilMs: number;
}

/** What {@link Balancer.pick} chose: a gateway, to be used after `delayMs`. */
export interface Pick {
  readonly gateway: string;
  readonly delayMs: number;
}

/** Load and health of a client's gateways. */
export class Balancer {
  readonly #loads: GatewayLoad[];
  #turn = 0;

  constructor(gateways: readonly string[]) {
    this.#loads = gateways.map((gateway) => ({
      gateway,
      outstanding: 0,
      failures: 0,
      restsUntilMs: 0,
    }));
  }

  /** Number of gateways. */
  get size(): number {
    return this.#loads.length;
  }

  /** The gateway for the next attempt; the first to be rested when all are resting. */
  pick(nowMs: number): Pick {
    let best: GatewayLoad | undefined;
    const count = this.#loads.length;
    // Equal loads take turns.
    for (let step = 0; step < count; step++) {
      const load = this.#loads[(this.#turn + step) % count] as GatewayLoad;
      if (best === undefined || better(load, best, nowMs)) best = load;
    }
    this.#turn = (this.#turn + 1) % count;
    const { gateway, restsUntilMs } = best as GatewayLoad;
    return { gateway, delayMs: Math.max(0, restsUntilMs - nowMs) };
  }

  started(gateway: string, transactions: number): void {
    this.#load(gateway).outstanding += transactions;
  }

  /** @param jitter - a random number in [0, 1) that spreads many clients' returns. */
  ended(
    gateway: string,
    transactions: number,
    failed: boolean,
    nowMs: number,
    jitter: number,
  ): void {
    const load = this.#load(gateway);
    load.outstanding -= transactions;
    if (!failed) {
      load.failures = 0;
      load.restsUntilMs = 0;
      return;
    }
    const restMs = Math.min(restMsMax, restMsMin * 2 ** Math.min(load.failures, 10));
    load.failures++;
    load.restsUntilMs = nowMs + restMs * (0.5 + jitter / 2);
  }

  #load(gateway: string): GatewayLoad {
    return this.#loads.find((load) => load.gateway === gateway) as GatewayLoad;
  }
}

function better(a: GatewayLoad, b: GatewayLoad, nowMs: number): boolean {
  const aRest = Math.max(0, a.restsUntilMs - nowMs);
  const bRest = Math.max(0, b.restsUntilMs - nowMs);
  if (aRest !== bRest) return aRest < bRest;
  return a.outstanding < b.outstanding;
}
