import { closeSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { segmentFrames } from '../../src/blocks/block-files.ts';

/** One byte in the middle of a block of the first file changes. @param chain - a node's directory for its chain. */
export function rotBlocks(chain: string, height: number): void {
  const blocks = join(chain, 'blocks');
  const name = readdirSync(blocks)
    .filter((file) => file.endsWith('.pb'))
    .sort()[0] as string;
  const file = openSync(join(blocks, name), 'r+');
  try {
    const bytes = Buffer.alloc(1 << 20);
    const whole = bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0));
    let at = 0;
    for (const frame of segmentFrames(whole)) {
      if (at++ < height) continue;
      const middle = frame.offset + (frame.bytes.length >> 1);
      writeSync(file, Buffer.of((whole[middle] as number) ^ 1), 0, 1, middle);
      return;
    }
  } finally {
    closeSync(file);
  }
}
