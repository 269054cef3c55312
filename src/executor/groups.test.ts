import { expect, it } from 'vitest';
import type { Token } from '../log/index.ts';
import {
  asAddress,
  type BatchItem,
  type CommitRecord,
  positionOf,
  type RecordsEntry,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { type Group, type GroupEffects, Groups } from './groups.ts';
import { Job } from './job.ts';

function numbered(number: number): Job {
  const txId = Buffer.alloc(32, number);
  return new Job({
    item: { txId, bytes: Buffer.alloc(8) } as unknown as BatchItem,
    leaf: 0,
    batch: {} as Job['batch'],
    orderKey: undefined,
    onOutcome: undefined,
    deadlineMs: 0,
    unit: number,
  });
}

function appliedAt(address: number, writer: string, job: Job): AppliedEntry {
  const record = { txId: job.item.txId, result: '', sets: [] } as unknown as CommitRecord;
  const position = positionOf(asAddress(address), 0);
  return {
    address: asAddress(address),
    entry: { kind: 'records', writer } as unknown as RecordsEntry,
    records: [{ position, record, verdict: verdicts.valid }],
    logTimeMs: 0,
  };
}

/** Two groups with tokens of two reigns for one address: a deposed sequencer answered late. */
function twoGroups(first: Token, second: Token) {
  const requested: Group[] = [];
  const told: string[] = [];
  const effects: GroupEffects = {
    request: (group) => requested.push(group),
    write: () => undefined,
    fill: () => undefined,
    own: () => undefined,
    failed: () => undefined,
    foreign: () => undefined,
    bulk: () => undefined,
    committed: (job) => told.push(`committed ${job.unit}`),
    invalid: (job) => told.push(`invalid ${job.unit}`),
    refused: (job) => told.push(`refused ${job.unit}`),
    again: (job, cause) => told.push(`again ${job.unit} ${cause}`),
  };
  const groups = new Groups(effects, { writer: 'node', byUnit: false });
  const jobs = [numbered(1), numbered(2)] as const;
  const tokens = [first, second];
  jobs.forEach((job, at) => {
    groups.add(job, at, Buffer.alloc(8), Buffer.alloc(64), []);
    groups.pump();
    groups.granted(requested[at] as Group, { token: tokens[at], conflicts: [undefined] });
  });
  return { groups, requested, told, jobs };
}

const deposed = { epoch: 3, address: asAddress(7) };
const reigning = { epoch: 4, address: asAddress(7) };

it('a late grant of the same address does not hide the group that was written there', () => {
  const { groups, requested, told, jobs } = twoGroups(reigning, deposed);
  groups.durable(requested[0] as Group);
  groups.applied(appliedAt(7, 'node', jobs[0]));
  expect(told).toEqual(['again 2 lost', 'committed 1']);
  expect(groups.live).toBe(0);
});

it('a group of a former reign is lost when its write is refused, though another has its address', () => {
  const { groups, requested, told, jobs } = twoGroups(deposed, reigning);
  groups.lost(requested[0] as Group);
  expect(told).toEqual(['again 1 lost']);
  groups.durable(requested[1] as Group);
  groups.applied(appliedAt(7, 'node', jobs[1]));
  expect(told).toEqual(['again 1 lost', 'committed 2']);
  expect(groups.live).toBe(0);
});

it('both are lost when another node has the address', () => {
  const { groups, told } = twoGroups(deposed, reigning);
  groups.applied(appliedAt(7, 'other', numbered(3)));
  expect(told).toEqual(['again 1 lost', 'again 2 lost']);
  expect(groups.live).toBe(0);
});
