import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import type { Replica } from '../replica/index.ts';
import { startNodeBlocks } from './node-blocks.ts';

it('does not count on blocks that nobody has opened', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-node-blocks-'));
  const events: string[] = [];
  const missing = join(directory, 'none.pem');
  const blocks = startNodeBlocks({
    io: realIo(),
    replica: {} as Replica,
    directory,
    peer: { mspId: 'Org1MSP', certificateFile: missing, keyFile: missing },
    onEvent: (text) => events.push(text),
  });
  try {
    expect(blocks.files).toBe('unknown');
    while (events.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(events).toEqual([expect.stringMatching(/^no blocks are made: NOT_FOUND/)]);
    expect(blocks.files).toBe('unknown');
  } finally {
    await blocks.close();
    await rm(directory, { recursive: true });
  }
});
