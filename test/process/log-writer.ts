import { fileURLToPath } from 'node:url';
import { ByteWriter } from '../../src/base/index.ts';
import { parentConnection, realIo } from '../../src/io/index.ts';
import { openEmbeddedLog } from '../../src/log/index.ts';
import { asAddress } from '../../src/model/index.ts';

// Test program: writes to the log in a directory until it is killed; reports what is acknowledged.

/** Content of an entry: the parent makes the same. */
export function entryContent(life: number, address: number): Buffer {
  return Buffer.alloc(1 + ((address * 7919 + life * 104_729) % 3000), `<${life}:${address}>`);
}

const [, program, directory, life] = process.argv;
if (program === fileURLToPath(import.meta.url)) await run(directory ?? '', Number(life));

async function run(path: string, lifeNumber: number): Promise<void> {
  const parent = parentConnection();
  parent.onFrame(() => undefined);
  const log = await openEmbeddedLog({
    io: realIo(),
    directory: path,
    segmentBytesMin: 64 * 1024,
    segmentBytesMax: 256 * 1024,
  });
  let next: number = await log.tail();
  const writer = async (): Promise<void> => {
    for (;;) {
      const address = next;
      next += 1;
      await log.write({ epoch: 0, address: asAddress(address) }, entryContent(lifeNumber, address));
      parent.send([new ByteWriter(8).u64(address).view()]);
    }
  };
  await Promise.all(Array.from({ length: 1 + (lifeNumber % 12) }, writer));
}
