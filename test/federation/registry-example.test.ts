import { expect, it } from 'vitest';
import type * as Example from '../../examples/registry/run.ts';
import { built } from '../process/built.ts';

// As users run it: executors are processes of the built program.
const { runRegistryExample } = (await import(built('examples/registry/run.js'))) as typeof Example;

it('shows two registries and a third, and one of two concurrent changes losing', async () => {
  const said: string[] = [];
  const { sameEverywhere, loserTold } = await runRegistryExample((text) => said.push(text));
  expect(said.join('\n')).toContain('A third registry joins');
  expect(sameEverywhere).toBe(true);
  expect(loserTold).toMatch(/^E_\w+: uddi:maps\.example:node: .*uddi:maps\.example:y-http/);
  expect(said.join('\n')).toMatch(/maps deletes Z: E_requestDenied/);
  expect(said.join('\n')).toMatch(/X2 is inserted: done/);
  expect(said.join('\n')).toMatch(/uddi:late.example:node: .*:x no, .*:x2 yes/);
}, 90_000);
