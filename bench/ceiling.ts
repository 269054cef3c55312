import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The reference of the `commit` bench: the smallest straight-line program that does what a commit
 * must do, on one thread. It parses a call, runs a plain function, checks versions in a Map, encodes
 * a record of about 300 bytes and writes groups with one fdatasync each. No network, no signatures,
 * no sandbox, no state root, no second copy.
 *
 * @returns transactions per second.
 */
export async function ceilingTps(
  directory: string,
  keys: number,
  seconds: number,
): Promise<number> {
  const file = join(directory, 'ceiling.dat');
  const groupRecords = 1000;
  const state = new Map<string, { value: number; version: number }>();
  for (let at = 0; at < keys; at++) state.set(`account${at}`, { value: 1000, version: 0 });
  const call = Buffer.alloc(64);
  const padding = Buffer.alloc(200, 0x20).latin1Slice();
  const descriptor = openSync(file, 'w');
  const group = Buffer.allocUnsafe(groupRecords * 512);
  let position = 0;
  const run = (parsed: string[]): { key: string; read: number; value: number }[] => {
    const amount = Number(parsed[3]);
    return [parsed[1], parsed[2]].map((key, at) => {
      const row = state.get(key as string);
      const value = (row?.value ?? 0) + (at === 0 ? -amount : amount);
      return { key: key as string, read: row?.version ?? 0, value };
    });
  };
  const started = performance.now();
  let committed = 0;
  while (performance.now() - started < seconds * 1000) {
    let length = 0;
    for (let at = 0; at < groupRecords; at++) {
      const from = Math.floor(Math.random() * keys);
      const to = Math.floor(Math.random() * keys);
      const size = call.latin1Write(`move account${from} account${to} 1`);
      const sets = run(call.latin1Slice(0, size).split(' '));
      position++;
      if (sets.some((set) => (state.get(set.key)?.version ?? 0) !== set.read)) continue;
      for (const set of sets) state.set(set.key, { value: set.value, version: position });
      length += group.latin1Write(`${JSON.stringify(sets)}${padding}\n`, length);
      committed++;
    }
    writeSync(descriptor, group, 0, length);
    await new Promise<void>((resolve, reject) => {
      fdatasync(descriptor, (error) => (error ? reject(error) : resolve()));
    });
  }
  const elapsed = (performance.now() - started) / 1000;
  closeSync(descriptor);
  await rm(file);
  return committed / elapsed;
}

/** Median time of one append of 4 KiB and fdatasync, milliseconds. */
export async function fsyncP50Ms(directory: string, rounds = 300): Promise<number> {
  const file = join(directory, 'fsync.dat');
  const descriptor = openSync(file, 'w');
  const page = Buffer.alloc(4096, 1);
  const times: number[] = [];
  // Written once beforehand and overwritten in place: appends would time the file system's journal.
  for (let at = 0; at < rounds; at++) writeSync(descriptor, page, 0, page.length, at * page.length);
  for (let at = 0; at < rounds; at++) {
    const started = performance.now();
    writeSync(descriptor, page, 0, page.length, at * page.length);
    await new Promise<void>((resolve, reject) => {
      fdatasync(descriptor, (error) => (error ? reject(error) : resolve()));
    });
    times.push(performance.now() - started);
  }
  closeSync(descriptor);
  await rm(file);
  return percentile(times, 0.5);
}

/** The value below which the given part of the samples lies. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}
