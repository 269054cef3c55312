import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import { openEmbeddedLog } from '../../src/log/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { followed } from '../conformance/model-log.ts';
import { entryContent } from './log-writer.ts';

const lives = 30;
const io = realIo();

/** Lets a process write until some time after its first acknowledgement; returns what it told us. */
async function liveAndDie(directory: string, life: number): Promise<number[]> {
  const acknowledged: number[] = [];
  const child = io.processes.spawn(new URL('./log-writer.ts', import.meta.url), {
    args: [directory, String(life)],
  });
  const gone = new Promise<string>((resolve) => child.onExit(resolve));
  const silent = new Promise<void>((resolve) => child.connection.onClose(() => resolve()));
  await new Promise<void>((resolve, reject) => {
    void gone.then((reason) => reject(new Error(`the writer ended by itself: ${reason}`)));
    child.connection.onFrame((frame) => {
      acknowledged.push(Number(frame.readBigUInt64BE(0)));
      if (acknowledged.length === 1) setTimeout(resolve, (life * 37) % 120);
    });
  });
  child.kill();
  await Promise.all([gone, silent]);
  return acknowledged;
}

it('keeps every acknowledged entry of a writer that is killed, 30 times', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-kill-'));
  try {
    const written = new Map<number, Buffer>();
    for (let life = 1; life <= lives; life += 1) {
      const acknowledged = await liveAndDie(directory, life);
      expect(acknowledged.length).toBeGreaterThan(0);
      for (const address of acknowledged) {
        expect(written.has(address), `${address} was acknowledged twice`).toBe(false);
        written.set(address, entryContent(life, address));
      }
    }
    const log = await openEmbeddedLog({ io, directory });
    const tail = await log.tail();
    for (let address = 0; address < tail; address += 1) await log.fill(asAddress(address));
    const entries = await followed(log, asAddress(0), tail);
    expect(entries.map(({ address }) => address)).toEqual(entries.map((_, index) => index));
    const wrong = [...written].filter(([address, bytes]) => {
      const entry = entries[address];
      return entry === undefined || Buffer.compare(entry.bytes, bytes) !== 0;
    });
    expect(wrong.map(([address]) => address)).toEqual([]);
    await log.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 180_000);
