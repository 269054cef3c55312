import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bundleContract } from '../contract/index.ts';
import { stateKey } from '../model/index.ts';
import { openTestChannel, type TestChannel } from './testing/harness.ts';

/** Deploys one contract class, given as source, in a real contract process. */
async function deploy(
  channel: TestChannel,
  name: string,
  version: string,
  body: string,
  daybook: object = {},
): Promise<void> {
  // Inside the repository, so that the contract finds fabric-contract-api.
  const directory = await mkdtemp(join(import.meta.dirname, 'testing', '.contract-'));
  try {
    const manifest = { name, version, main: 'index.js', daybook };
    await writeFile(join(directory, 'package.json'), JSON.stringify(manifest));
    await writeFile(
      join(directory, 'index.js'),
      `const { Contract } = require('fabric-contract-api');
       class Own extends Contract { ${body} }
       module.exports.contracts = [Own];`,
    );
    const outcome = await channel.deploy(0, await bundleContract(directory));
    expect(outcome).toMatchObject({ status: 'committed' });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

it('contracts call each other, are upgraded, and query by declared indexes', async () => {
  const channel = await openTestChannel();
  try {
    await deploy(
      channel,
      'outer',
      '1',
      `async both(ctx, key) {
         await ctx.stub.putState(key, Buffer.from('outer'));
         const { payload } = await ctx.stub.invokeChaincode('inner', ['note', key], '');
         return 'inner says ' + Buffer.from(payload).toString();
       }`,
    );
    const note = (text: string): string =>
      `async note(ctx, key) { await ctx.stub.putState(key, Buffer.from('${text}')); return '${text}'; }`;
    await deploy(channel, 'inner', '1', note('one'));
    const both = (key: string) => ({ contract: 'outer', functionName: 'both', args: [key] });
    expect(await channel.submit(0, [both('a')])).toMatchObject([
      { status: 'committed', result: 'inner says one' },
    ]);
    await deploy(channel, 'inner', '2', note('two'));
    expect(await channel.submit(0, [both('b')])).toMatchObject([
      { status: 'committed', result: 'inner says two' },
    ]);
    const { state } = channel.nodes[0] as TestChannel['nodes'][number];
    expect(state.get(stateKey('inner', 'a'))?.value).toBe('one');
    expect(state.get(stateKey('outer', 'b'))?.value).toBe('outer');

    await deploy(
      channel,
      'cars',
      '1',
      `async add(ctx, key, colour) {
         await ctx.stub.putState(key, Buffer.from(JSON.stringify({ colour })));
       }
       async count(ctx, colour) {
         const found = ctx.stub.getQueryResult(JSON.stringify({ selector: { colour } }));
         const keys = [];
         for await (const { key } of found) keys.push(key);
         return keys.join(',');
       }
       async past(ctx, key) {
         const values = [];
         for await (const { value } of ctx.stub.getHistoryForKey(key)) values.push(value.toString());
         return values.join(' ');
       }`,
      { indexes: { byColour: ['colour'] } },
    );
    const car = (functionName: string, ...args: string[]) => ({
      contract: 'cars',
      functionName,
      args,
    });
    const outcomes = await channel.submit(0, [
      car('add', 'x', 'red'),
      car('add', 'y', 'blue'),
      car('count', 'red'),
      car('add', 'y', 'red'),
      car('count', 'red'),
    ]);
    expect(outcomes.map((one) => one.status === 'committed' && one.result)).toEqual([
      '',
      '',
      'x',
      '',
      'x,y',
    ]);
    expect(await channel.evaluate(0, 'cars', 'count', 'blue')).toBe('');
    expect(await channel.evaluate(0, 'cars', 'past', 'y')).toBe(
      '{"colour":"red"} {"colour":"blue"}',
    );
  } finally {
    await channel.close();
  }
});
