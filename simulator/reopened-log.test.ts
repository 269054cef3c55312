import { expect, it } from 'vitest';
import { openEmbeddedLog, type SharedLog } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { finish } from './finish.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SimNetwork } from './sim-network.ts';
import { World } from './world.ts';

const entries = 20;

it('loses nothing that it showed when the power goes after a sync that failed', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = new World(seed);
    const disk = new SimDisk(world);
    const done = <T>(task: Promise<T>): Promise<T> => finish(world, task, 60_000, 'no end');
    const open = async (): Promise<SharedLog> => {
      const io = simIo(world, process, disk, new SimNetwork(world));
      return await done(openEmbeddedLog({ io, directory: '/log' }));
    };
    let process = world.spawn('machine', 'first');
    const first = await open();
    const epoch = await done(first.epoch());
    const write = (address: number): Promise<void> =>
      first.write({ epoch, address: asAddress(address) }, Buffer.alloc(700, address));
    for (let address = 0; address < entries; address++) await done(write(address));
    disk.faults.syncFails = 1;
    await expect(done(write(entries))).rejects.toMatchObject({ code: 'IO_FAILED' });
    world.kill(process);

    // The next process sees what the cache has: it takes the entry for written, and so do others.
    disk.faults.syncFails = 0;
    process = world.spawn('machine', 'second');
    const shown = await done((await open()).tail());
    expect(shown).toBe(entries + 1);
    world.kill(process);
    disk.powerFailure();

    process = world.spawn('machine', 'third');
    const last = await open();
    expect(await done(last.tail())).toBe(shown);
    const entry = await done(last.read(asAddress(entries)));
    expect(Buffer.alloc(700, entries).equals(entry.bytes)).toBe(true);
    world.kill(process);
  }
});
