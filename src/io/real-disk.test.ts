import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockByFile } from './directory-lock.ts';
import { realDisk } from './real-disk.ts';
import { realProcesses } from './real-processes.ts';

const disk = realDisk();
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'daybook-io-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

it('makes directories, and says which one cannot be made', async () => {
  const directory = join(root, 'a', 'b', 'c');
  await Promise.all([disk.makeDirectory(directory), disk.makeDirectory(directory)]);
  await disk.writeFile(join(directory, 'file'), Buffer.of(1));
  await disk.makeDirectory(directory);
  for (const path of [join(directory, 'file'), join(directory, 'file', 'x', 'y')]) {
    await expect(disk.makeDirectory(path)).rejects.toMatchObject({ code: 'IO_FAILED' });
  }
});

it.skipIf(process.platform !== 'linux')('does not try for ever in /proc', async () => {
  await expect(disk.makeDirectory('/proc/x/y')).rejects.toMatchObject({
    code: 'IO_FAILED',
    message: expect.stringContaining('/proc/x'),
  });
});

it('writes parts, reads them back, and stops at the end of the file', async () => {
  const directory = join(root, 'a', 'b');
  await disk.makeDirectory(directory);
  const path = join(directory, 'file');
  await expect(disk.open(path)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const file = await disk.open(path, { create: true });
  const parts = Array.from({ length: 3000 }, (_, index) => Buffer.from([index & 0xff, index >> 8]));
  await file.write(parts, 5);
  await file.sync();
  expect(await file.size()).toBe(5 + 6000);
  const target = Buffer.alloc(7000);
  expect(await file.read(target, 5)).toBe(6000);
  expect(target.subarray(0, 6000).equals(Buffer.concat(parts))).toBe(true);
  expect(file.readSync(target, 6003)).toBe(2);
  await file.truncate(1);
  expect(await file.size()).toBe(1);
  await file.close();
  await expect(file.sync()).rejects.toMatchObject({ code: 'CLOSED' });
  expect(await disk.list(directory)).toEqual(['file']);
  expect(await disk.list(join(root, 'missing'))).toEqual([]);
});

it('replaces, renames and removes whole files', async () => {
  const path = join(root, 'file');
  expect(await disk.readFile(path)).toBeUndefined();
  await disk.writeFile(path, Buffer.from('one'));
  await disk.writeFile(path, Buffer.from('two'));
  await disk.rename(path, join(root, 'other'));
  expect((await disk.readFile(join(root, 'other')))?.toString()).toBe('two');
  expect(await disk.list(root)).toEqual(['other']);
  await disk.remove(join(root, 'other'));
  await disk.remove(join(root, 'other'));
  expect(await disk.list(root)).toEqual([]);
});

it.runIf(process.platform === 'linux')('maps a full device to DISK_FULL', async () => {
  const full = await disk.open('/dev/full');
  await expect(full.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'DISK_FULL' });
  await full.close();
});

it('locks a directory until released, and until the holder is killed', async () => {
  const lock = await disk.lock(root);
  await expect(disk.lock(root)).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  await lock.release();
  const holder = realProcesses().spawn(new URL('./testing/lock-child.ts', import.meta.url), {
    args: [root],
  });
  await new Promise<void>((resolve) => holder.connection.onFrame(() => resolve()));
  await expect(disk.lock(root)).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  const exit = new Promise((resolve) => holder.onExit(resolve));
  holder.kill();
  await exit;
  await (await disk.lock(root)).release();
});

it('locks by a file where the kernel has no names, and takes a dead holder’s over', async () => {
  const lock = await lockByFile(root);
  await expect(lockByFile(root)).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  await lock.release();
  // No process has this id: it is above what any kernel gives out.
  await disk.writeFile(join(root, '.lock'), Buffer.from('99999999'));
  await (await lockByFile(root)).release();
  await disk.writeFile(join(root, '.lock'), Buffer.from(String(process.pid)));
  await (await lockByFile(root)).release();
  await disk.writeFile(join(root, '.lock'), Buffer.from(String(process.ppid)));
  await expect(lockByFile(root)).rejects.toMatchObject({ code: 'LOG_LOCKED' });
});
