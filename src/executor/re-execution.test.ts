import { beforeAll, expect, test } from 'vitest';
import { bytesOf, textOf } from '../base/index.ts';
import { sampleOf } from '../contract/testing/harness.ts';
import { realIo } from '../io/index.ts';
import {
  asPosition,
  type CommitRecord,
  type ContractBundle,
  deployFunction,
  encodeBundle,
  encodeTransaction,
  lifecycleNamespace,
  sha256,
  stateKey,
} from '../model/index.ts';
import { recordedUpdateOf } from '../state/index.ts';
import { type Reexecuted, Reexecution } from './re-execution.ts';

/* Transactions executed once more, on a state that is told what took effect. */

let bundle: ContractBundle;
beforeAll(async () => {
  bundle = await sampleOf(`
    async put(ctx, key, n) {
      await ctx.stub.getState(key);
      await ctx.stub.putState(key, Buffer.from(JSON.stringify({ n: Number(n) })));
    }
    async get(ctx, key) {
      return (await ctx.stub.getState(key)).toString();
    }
    async double(ctx) {
      await ctx.stub.updateRange({ start: 'a', end: 'z' }, {}, { $mul: { n: 2 } });
    }
    async past(ctx, key) {
      const values = [];
      for await (const row of ctx.stub.getHistoryForKey(key)) values.push(row.value.toString());
      return values.join(' ');
    }
    async refuse() {
      throw new Error('no');
    }`);
});

/** One chain of transactions; each takes effect unless `lost`. */
class Chain {
  readonly reexecution = new Reexecution(realIo());
  #position = 0;

  async call(
    contract: string,
    functionName: string,
    args: readonly (string | Uint8Array)[],
    lost = false,
  ): Promise<Reexecuted> {
    const position = asPosition(++this.#position);
    const nonce = Buffer.alloc(24, this.#position);
    const timestampMs = 1_700_000_000_000 + position;
    const txId = sha256(nonce);
    const transactionBytes = encodeTransaction({
      channel: 'main',
      contract,
      contractVersion: '',
      functionName,
      args: args.map((arg) => (typeof arg === 'string' ? Buffer.from(arg) : arg)),
      nonce,
      timestampMs,
    });
    const creator = Buffer.from('nobody');
    const found = await this.reexecution.execute({
      kind: 'submit',
      txId,
      leaf: 0,
      creator,
      transactionBytes,
    });
    if (found.kind === 'record' && !lost) {
      const { sets } = found.record;
      this.reexecution.apply(
        { txId: txId.toString('hex'), timestampMs },
        sets.flatMap(({ namespace, writes }) =>
          writes.map(({ key, value }) => ({
            key: stateKey(namespace, key),
            value,
            version: position,
          })),
        ),
        recordedUpdateOf(sets, { position, txId, timestampMs }, 0),
      );
    }
    return found;
  }

  deploy(): Promise<Reexecuted> {
    const argument = bytesOf(encodeBundle(bundle));
    return this.call(lifecycleNamespace, deployFunction, [argument]);
  }

  async record(functionName: string, ...args: string[]): Promise<CommitRecord> {
    const found = await this.call('sample', functionName, args);
    if (found.kind !== 'record') throw new Error(found.message);
    return found.record;
  }
}

test('what took effect is read, with its version; what did not leaves no trace', async () => {
  const chain = new Chain();
  expect(await chain.call('sample', 'put', ['a', '1'])).toMatchObject({ code: 'CONTRACT_UNKNOWN' });
  expect((await chain.deploy()).kind).toBe('record');
  const first = await chain.record('put', 'a', '1');
  expect(first.sets[0]?.reads).toMatchObject([{ key: 'a', version: undefined }]);
  await chain.call('sample', 'put', ['a', '2'], true);
  const second = await chain.record('put', 'a', '3');
  expect(second.sets[0]?.reads).toMatchObject([{ key: 'a', version: 3 }]);
  expect(second.contractVersion).toBe('1.0.0');
  const refused = await chain.call('sample', 'refuse', []);
  expect(refused).toMatchObject({ kind: 'refused', code: 'CONTRACT_REJECTED' });
});

test('bulk updates show in the rows that are read after them, and give them their version', async () => {
  const chain = new Chain();
  await chain.deploy();
  await chain.record('put', 'a', '1');
  await chain.record('put', 'b', '5');
  await chain.record('double');
  await chain.record('put', 'b', '5');
  await chain.record('double');
  const a = await chain.record('get', 'a');
  const b = await chain.record('get', 'b');
  expect([textOf(a.result), textOf(b.result)]).toEqual(['{"n":4}', '{"n":10}']);
  expect(a.sets[0]?.reads).toMatchObject([{ key: 'a', version: 6 }]);
});

test('histories are told newest first, and said to have been read', async () => {
  const chain = new Chain();
  await chain.deploy();
  for (const n of ['1', '2', '3']) await chain.record('put', 'a', n);
  const found = await chain.call('sample', 'past', ['a']);
  expect(found.readHistory).toBe(true);
  expect(found.kind === 'record' && found.record.result).toBe('{"n":3} {"n":2} {"n":1}');
  expect((await chain.call('sample', 'get', ['a'])).readHistory).toBe(false);
});
