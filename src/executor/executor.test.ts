import { expect, it } from 'vitest';
import { bundleContract } from '../contract/index.ts';
import { openTestChannel } from './testing/harness.ts';

it('commits calls of a real contract in a real contract process', async () => {
  const channel = await openTestChannel();
  try {
    const bundle = await bundleContract('examples/contracts/bench');
    expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
    const outcomes = await channel.submit(
      0,
      Array.from({ length: 50 }, () => ({
        contract: 'bench',
        functionName: 'move',
        args: ['a', 'b', '1'],
      })),
    );
    expect(outcomes.map((outcome) => outcome.status)).toEqual(Array(50).fill('committed'));
    expect(await channel.evaluate(0, 'bench', 'read', 'b')).toBe('50');
    expect(channel.nodes[0]?.executor.metrics()).toMatchObject({
      committed: 51,
      conflictsAtSequencer: 0,
      conflictsAtReplay: 0,
    });
  } finally {
    await channel.close();
  }
});
