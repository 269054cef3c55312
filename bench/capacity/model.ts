import { limits } from '../../src/base/index.ts';

/** What each step costs on one machine; microseconds of one core unless said. */
export interface Costs {
  /** Contract process: one call of the `bench` contract's `move`, encoding included. */
  readonly contractUs: number;
  /** Executor process, per transaction of its own: gateway, admission, grouping, answer. */
  readonly admissionUs: number;
  /** Replay and application of an entry, besides its records. */
  readonly entryUs: number;
  /** Replay and application of a record whose batch this node verified, and of another's. */
  readonly ownRecordUs: number;
  readonly foreignRecordUs: number;
  /** Replay and application per KiB of values. */
  readonly recordKibUs: number;
  /** Verifying a batch's signature, with what else is done once a batch. */
  readonly signatureUs: number;
  readonly sequencerGroupUs: number;
  readonly sequencerRecordUs: number;
  /** A log unit's time for a transaction of etcd, for each entry in it, and per KiB. */
  readonly unitTransactionUs: number;
  readonly unitEntryUs: number;
  readonly unitKibUs: number;
  /** From the end of that until the writer knows, when nothing else is under way. */
  readonly unitLatencyUs: number;
}

/** A network to be sized. */
export interface Sizing {
  readonly executors: number;
  readonly units: number;
  /** Transactions per signed batch. */
  readonly batch: number;
  /** Bytes of an entry per record, and of the values in it. */
  readonly recordBytes: number;
  readonly valueBytes: number;
  /** Transactions that clients keep open, per executor. */
  readonly inFlight: number;
  /** One way between any two processes. */
  readonly networkUs: number;
}

/** What can be the narrowest place. */
export type Resource = 'contract' | 'executor' | 'sequencer' | 'log' | 'clients';

/** Transactions per second that a network takes, and what limits it. */
export interface Prediction {
  readonly tps: number;
  readonly bottleneck: Resource;
  /** Transactions per second that each place would take alone. */
  readonly bounds: Readonly<Record<Resource, number>>;
  /** Records per entry at that rate. */
  readonly group: number;
}

/** Calls that one frame carries to the contract process and back. */
export const frameCalls = 20;

const secondUs = 1_000_000;

/**
 * The capacity model of `docs/capacity.md`. Groups take what has gathered, so their size depends on
 * the rate and, as small entries cost more, the other way round: both are found by iteration. A log
 * that is busy with small entries makes groups wait and grow; it is the narrowest place only when
 * they cannot grow any more.
 */
export function predict(costs: Costs, sizing: Sizing): Prediction {
  let group = 1;
  for (let round = 0; round < 60; round++) {
    const { log: _, ...others } = boundsFor(costs, sizing, group);
    const tps = Math.min(...Object.values(others));
    const wanted = Math.max(groupAt(costs, sizing, tps), groupForLog(costs, sizing, tps));
    // Halfway only: a larger group raises the rate that asks for it.
    group = Math.min(groupMax(sizing), Math.sqrt(group * wanted));
  }
  const bounds = boundsFor(costs, sizing, group);
  const { log, ...others } = bounds;
  const [bottleneck, tps] = narrowest(others);
  return log < tps * logSlack
    ? { tps: log, bottleneck: 'log', bounds, group }
    : { tps: Math.min(tps, log), bottleneck, bounds, group };
}

/** Groups grow until the log takes what the others let through: then both bounds are the same. */
const logSlack = 0.98;

/** Most records that a group of this network can have. */
export function groupMax({ recordBytes, inFlight }: Sizing): number {
  return Math.max(
    1,
    Math.min(
      limits.recordsPerEntryMax,
      limits.groupBytesMax / recordBytes,
      // What is open at an executor: groups being written, one that asks, one that gathers.
      inFlight / (limits.groupsInFlightMax + 2),
    ),
  );
}

/** The group that gathers while those before it are sequenced and written. */
function groupAt(costs: Costs, { executors, networkUs }: Sizing, tps: number): number {
  const askUs = 2 * networkUs + costs.sequencerGroupUs;
  const writeUs = costs.unitTransactionUs + costs.unitLatencyUs + 2 * networkUs;
  const groupsPerSecond = Math.min(
    // One group at a time asks the sequencer; so many are being written.
    (executors * secondUs) / askUs,
    (executors * limits.groupsInFlightMax * secondUs) / writeUs,
  );
  // Calls are executed a frame at a time.
  return Math.max(frameCalls, tps / groupsPerSecond);
}

/** The least group with which the log takes this rate; infinite when none is large enough. */
function groupForLog(costs: Costs, sizing: Sizing, tps: number): number {
  const perRecordUs = (sizing.units * secondUs) / tps - unitRecordUs(costs, sizing);
  return perRecordUs <= 0 ? Number.POSITIVE_INFINITY : unitEntryUs(costs, sizing) / perRecordUs;
}

function unitRecordUs(costs: Costs, { recordBytes }: Sizing): number {
  return (costs.unitKibUs * recordBytes) / 1024;
}

/** A unit's time for an entry without its bytes: writers share transactions once four are out. */
function unitEntryUs(costs: Costs, { units }: Sizing): number {
  const shared = Math.max(1, limits.groupsInFlightMax / units / 4);
  return costs.unitTransactionUs / shared + costs.unitEntryUs;
}

function boundsFor(costs: Costs, sizing: Sizing, group: number): Record<Resource, number> {
  const { executors, units, batch, valueBytes, inFlight, networkUs } = sizing;
  const signatures = costs.signatureUs / batch;
  const valuesUs = (costs.recordKibUs * valueBytes) / 1024;
  const ownUs = costs.admissionUs + signatures + costs.ownRecordUs + valuesUs;
  const foreignUs = costs.foreignRecordUs + signatures + valuesUs;
  const executorUs =
    costs.entryUs / group + ownUs / executors + (foreignUs * (executors - 1)) / executors;
  const unitUs = unitEntryUs(costs, sizing) / group + unitRecordUs(costs, sizing);
  const loneUs =
    8 * networkUs +
    ownUs +
    costs.contractUs +
    costs.sequencerGroupUs +
    costs.unitTransactionUs +
    costs.unitLatencyUs;
  return {
    contract: (executors * secondUs) / costs.contractUs,
    executor: secondUs / executorUs,
    sequencer: secondUs / (costs.sequencerRecordUs + costs.sequencerGroupUs / group),
    log: (units * secondUs) / unitUs,
    clients: (executors * inFlight * secondUs) / loneUs,
  };
}

function narrowest(bounds: Readonly<Record<Exclude<Resource, 'log'>, number>>): [Resource, number] {
  let least: [Resource, number] = ['clients', bounds.clients];
  for (const each of Object.entries(bounds) as [Resource, number][]) {
    if (each[1] < least[1]) least = each;
  }
  return least;
}
