import { expect, it } from 'vitest';
import type { Connection } from '../src/io/index.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SimNetwork } from './sim-network.ts';
import { SimulationFailure, World } from './world.ts';

const second = 1_000_000;

it('runs events by time, then in order, and follows promises up in between', async () => {
  const world = new World(1);
  const seen: string[] = [];
  world.after(undefined, 20, 'late', () => seen.push('late'));
  world.after(undefined, 10, 'first', () => {
    seen.push('first');
    void Promise.resolve()
      .then(() => undefined)
      .then(() => seen.push('promise of first'));
    world.after(undefined, 0, 'soon', () => seen.push('soon'));
  });
  world.after(undefined, 10, 'second', () => seen.push('second'));
  await expect(world.run(() => false, second)).resolves.toBe('idle');
  expect(seen).toEqual(['first', 'promise of first', 'second', 'soon', 'late']);
  expect(world.nowUs).toBe(20);
});

it('calls nobody back who is dead, and keeps the order for who pauses', async () => {
  const world = new World(1);
  const process = world.spawn('machine', 'program');
  const seen: number[] = [];
  for (const at of [1, 2, 3]) world.after(process, at * 10, 'event', () => seen.push(at));
  process.pausedUntilUs = 15;
  // A second, longer pause while the first events wait already.
  world.after(undefined, 12, 'pause', () => {
    process.pausedUntilUs = 25;
  });
  await world.run(() => false, second);
  expect(seen).toEqual([1, 2, 3]);
  world.after(process, 10, 'event', () => seen.push(4));
  world.kill(process);
  await world.run(() => false, 2 * second);
  expect(seen).toEqual([1, 2, 3]);
});

it('ends a run with what an event threw', async () => {
  const world = new World(1);
  world.after(undefined, 1, 'bug', () => {
    throw new Error('a bug');
  });
  await expect(world.run(() => false, second)).rejects.toBeInstanceOf(SimulationFailure);
});

async function finished<T>(world: World, task: Promise<T>): Promise<T> {
  let over = false;
  const watched = task.finally(() => {
    over = true;
  });
  watched.catch(() => undefined);
  await world.run(() => over, world.nowUs + 60 * second);
  return await watched;
}

it('keeps what was synced through a power failure, and of the rest only some sectors', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    const disk = new SimDisk(world);
    const process = world.spawn('machine', 'program');
    const io = simIo(world, process, disk, new SimNetwork(world));
    await finished(
      world,
      (async () => {
        const file = await io.disk.open('/file', { create: true });
        await file.write([Buffer.alloc(2000, 1)], 0);
        await file.sync();
        await file.write([Buffer.alloc(2000, 2)], 1000);
      })(),
    );
    world.kill(process);
    disk.powerFailure();
    const after = world.spawn('machine', 'next');
    const again = simIo(world, after, disk, new SimNetwork(world));
    const found = (await finished(world, again.disk.readFile('/file'))) as Buffer;
    expect(found.subarray(0, 1000).equals(Buffer.alloc(1000, 1))).toBe(true);
    expect(found.length).toBeGreaterThanOrEqual(2000);
    expect([1, 2]).toContain(found[1500]);
    if (!found.subarray(1000).equals(Buffer.alloc(2000, 2))) lost++;
  }
  expect(lost).toBeGreaterThan(10);
});

it('fails a sync, forgets what it should have saved, and is full when told', async () => {
  const world = new World(1);
  const disk = new SimDisk(world);
  const process = world.spawn('machine', 'program');
  const io = simIo(world, process, disk, new SimNetwork(world));
  const file = await finished(world, io.disk.open('/file', { create: true }));
  disk.faults.syncFails = 1;
  await finished(world, file.write([Buffer.alloc(512, 1)], 0));
  await expect(finished(world, file.sync())).rejects.toMatchObject({ code: 'IO_FAILED' });
  disk.faults.syncFails = 0;
  await finished(world, file.sync());
  disk.faults.bytesMax = 512;
  await expect(finished(world, file.write([Buffer.alloc(9)], 512))).rejects.toMatchObject({
    code: 'DISK_FULL',
  });
  disk.powerFailure();
  const found = await finished(world, io.disk.readFile('/file'));
  expect(found?.every((byte) => byte === 0)).toBe(true);
});

it('delivers in order, holds frames while a link is blocked, and tells both ends of a reset', async () => {
  const world = new World(3);
  const network = new SimNetwork(world);
  const server = world.spawn('server', 'server');
  const client = world.spawn('client', 'client');
  const received: string[] = [];
  const closed: string[] = [];
  await network.of(server).listen('server:1', (connection) => {
    connection.onFrame((frame) => received.push(frame.toString()));
    connection.onClose((cause) => closed.push(`server ${cause?.message}`));
  });
  const connection: Connection = await finished(world, network.of(client).connect('server:1'));
  connection.onClose((cause) => closed.push(`client ${cause?.message}`));
  for (let number = 0; number < 20; number++) connection.send([Buffer.from(String(number))]);
  await world.run(() => false, world.nowUs + second);
  const numbers = Array.from({ length: 20 }, (_, number) => String(number));
  expect(received).toEqual(numbers);
  network.link('client', 'server').blockedUntilUs = world.nowUs + 2 * second;
  connection.send([Buffer.from('held')]);
  await world.run(() => false, world.nowUs + second);
  expect(received).toEqual(numbers);
  await world.run(() => false, world.nowUs + 2 * second);
  expect(received.at(-1)).toBe('held');
  network.link('client', 'server').resets = 1;
  expect(connection.send([Buffer.from('lost')])).toBe(false);
  await world.run(() => false, world.nowUs + second);
  expect(closed.toSorted()).toEqual(['client connection reset', 'server connection reset']);
  expect(received.at(-1)).toBe('held');
  world.kill(server);
  await expect(finished(world, network.of(client).connect('server:1'))).rejects.toMatchObject({
    code: 'PEER_UNREACHABLE',
  });
});

it('rots one bit of a file, for good', async () => {
  const world = new World(5);
  const disk = new SimDisk(world);
  const process = world.spawn('machine', 'program');
  const io = simIo(world, process, disk, new SimNetwork(world));
  await finished(world, io.disk.writeFile('/log/1.index', Buffer.alloc(100)));
  await finished(world, io.disk.writeFile('/log/1.log', Buffer.alloc(100)));
  expect(disk.rot(/\.rows$/)).toBeUndefined();
  expect(disk.rot(/\.index$/)).toBe('/log/1.index');
  disk.powerFailure();
  const found = (await finished(world, io.disk.readFile('/log/1.index'))) as Buffer;
  expect(found.filter((byte) => byte !== 0)).toHaveLength(1);
  const other = await finished(world, io.disk.readFile('/log/1.log'));
  expect(other?.every((byte) => byte === 0)).toBe(true);
});
