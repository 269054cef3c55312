import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { isDaybookError } from '../../base/index.ts';
import type { StatusResponse } from './etcd-api.ts';
import { type SpaceClient, SpaceWatch } from './space.ts';

const mebibyte = 1024 * 1024;
const quotaBytes = 24 * mebibyte;
const highBytes = 0.8 * quotaBytes;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** One member of etcd: it says its size as of the last commit, and commits only after writes. */
class Member {
  used = 0;
  said = 0;
  highest = 0;
  nudges = 0;
  looks = 0;
  #committing = false;

  put(bytes: number): void {
    this.used += bytes;
    this.highest = Math.max(this.highest, this.used);
    if (this.#committing) return;
    this.#committing = true;
    setTimeout(() => {
      this.#committing = false;
      this.said = this.used;
    }, 100);
  }
}

function watchOf(member: Member, others: readonly 'hanging'[] = []): SpaceWatch {
  const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
  const answer = (): StatusResponse => ({
    header: { cluster_id: '1', member_id: '1', revision: '1' },
    version: '3.4.23',
    dbSize: String(member.said),
    dbSizeInUse: String(member.said),
    leader: '1',
  });
  const status = async (at: number): Promise<StatusResponse | undefined> => {
    if (at === 0) member.looks++;
    await sleep(at > 1 && others.length > 0 ? 1000 : 1);
    return at > 1 && others.length > 0 ? undefined : answer();
  };
  const client = {
    memberCount: 3,
    sleep,
    status,
    statuses: () => Promise.all([0, 1, 2].map(status)),
    call: async () => {
      member.nudges++;
      member.put(64);
    },
  };
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  return new SpaceWatch({ clock }, client as unknown as SpaceClient, {
    quotaBytes,
    highBytes,
    nodes: () => 4,
    nudge: Buffer.from('nudge'),
  });
}

test('several processes that write as fast as they may never reach the quota, and go on after a trim', async () => {
  const member = new Member();
  const watches = [0, 1, 2, 3].map(() => watchOf(member));
  let stopped = false;
  let written = 0;
  const refused = watches.map(() => 0);
  const write = async (process: number): Promise<void> => {
    const bytes = 64 * 1024;
    while (!stopped) {
      try {
        await (watches[process] as SpaceWatch).admit(bytes);
        // What etcd needs beside the value.
        member.put(bytes * 1.2);
        written++;
        await new Promise((done) => setTimeout(done, 1));
      } catch (error) {
        expect(isDaybookError(error, 'OVERLOADED')).toBe(true);
        expect(error).toMatchObject({ details: { limit: 'logSpaceBytes' } });
        refused[process] = (refused[process] ?? 0) + 1;
        await new Promise((done) => setTimeout(done, 50));
      }
    }
  };
  const writers = watches.flatMap((_, process) => Array.from({ length: 8 }, () => write(process)));
  for (let round = 0; round < 3; round++) {
    const before = written;
    refused.fill(0);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(Math.min(...refused)).toBeGreaterThan(10);
    expect(member.used).toBeGreaterThanOrEqual(highBytes);
    expect(written - before).toBeGreaterThan(100);
    expect(member.highest).toBeLessThan(quotaBytes);
    // A trim; nobody is told.
    member.used = mebibyte;
  }
  stopped = true;
  await vi.advanceTimersByTimeAsync(1000);
  await Promise.all(writers);
});

test('a member that hangs delays nobody, and neither does a size far below the quota', async () => {
  const member = new Member();
  const watch = watchOf(member, ['hanging']);
  const startMs = performance.now();
  let written = 0;
  const writing = (async () => {
    for (; written < 100; written++) await watch.admit(1024);
  })();
  await vi.advanceTimersByTimeAsync(50);
  await writing;
  expect(written).toBe(100);
  expect(performance.now() - startMs).toBeLessThan(100);
});

test('a log that stays full is hardly written to, and whoever waits goes on soon after there is room', async () => {
  const member = new Member();
  const watch = watchOf(member);
  const full = highBytes + mebibyte;
  /** As a writer does that waits for room. */
  const untilAdmitted = async (): Promise<void> => {
    for (;;) {
      try {
        await watch.admit(1024);
        return;
      } catch {
        await new Promise((done) => setTimeout(done, 200));
      }
    }
  };
  for (const isCommitted of [true, false]) {
    member.put(full - member.used);
    await vi.advanceTimersByTimeAsync(1000);
    Object.assign(member, { nudges: 0, looks: 0 });
    let isAdmitted = false;
    const waiting = untilAdmitted().then(() => {
      isAdmitted = true;
    });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(member.nudges).toBeLessThan(25);
    expect(member.looks).toBeLessThan(70);
    member.used = mebibyte;
    // Whoever trims sees to a commit; when others make room, nobody may.
    if (isCommitted) member.said = member.used;
    await vi.advanceTimersByTimeAsync(isCommitted ? 1500 : 6000);
    expect(isAdmitted).toBe(true);
    await waiting;
  }
});
