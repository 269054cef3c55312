import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { realProcesses } from './real-processes.ts';

const echo = new URL('./testing/echo-child.ts', import.meta.url);

it('talks with a child, tells its use of the machine, and sees it end', async () => {
  const child = realProcesses().spawn(echo, { nodeOptions: ['--max-old-space-size=64'] });
  const answer = new Promise<string>((resolve) =>
    child.connection.onFrame((frame) => resolve(frame.toString())),
  );
  child.connection.send([Buffer.from('hello '), Buffer.from('child')]);
  expect(await answer).toBe('hello child');
  if (process.platform === 'linux') {
    expect(child.residentBytes()).toBeGreaterThan(10 * 1024 * 1024);
    expect(child.cpuMs()).toBeGreaterThan(0);
  }
  const exit = new Promise<string>((resolve) => child.onExit(resolve));
  const closed = new Promise<void>((resolve) => child.connection.onClose(() => resolve()));
  child.kill();
  expect(await exit).toBe('signal SIGKILL');
  await closed;
  expect(child.residentBytes()).toBeUndefined();
});

it('says in one line that the heap of a child is full', async () => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const hungry = new URL('./testing/hungry-child.ts', import.meta.url);
  const child = realProcesses().spawn(hungry, {
    nodeOptions: ['--max-old-space-size=48'],
    heapFull: 'its heap is full',
  });
  expect(await new Promise<string>((resolve) => child.onExit(resolve))).toBe(
    'its heap is full (SIGABRT)',
  );
  await vi.waitFor(() => expect(write.mock.calls.length).toBeGreaterThanOrEqual(2));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(write.mock.calls.map(([text]) => text)).toEqual([
    'a line of its own\n',
    'its heap is full\n',
  ]);
  write.mockRestore();
}, 30_000);

it('ends the child when the connection closes', async () => {
  const child = realProcesses().spawn(echo, {});
  const exit = new Promise<string>((resolve) => child.onExit(resolve));
  const ready = new Promise<void>((resolve) => child.connection.onFrame(() => resolve()));
  child.connection.send([Buffer.from('x')]);
  await ready;
  child.connection.close();
  expect(await exit).toBe('exit code 0');
});

it.runIf(process.platform === 'linux')(
  'ends a grandchild that is caught in a loop when the child is killed',
  async () => {
    const child = realProcesses().spawn(new URL('./testing/parent-child.ts', import.meta.url), {});
    const pid = await new Promise<number>((resolve) =>
      child.connection.onFrame((frame) => resolve(Number(frame.toString()))),
    );
    expect(isAlive(pid)).toBe(true);
    child.kill();
    const deadline = Date.now() + 10_000;
    while (isAlive(pid) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(isAlive(pid)).toBe(false);
  },
);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie nobody waits for is dead enough.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
