import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ByteReader } from '../../base/index.ts';
import {
  type BlockGenerator,
  type BlockStatus,
  openBlockGenerator,
  type RootStatement,
  type RootVerdict,
  signedPart,
} from '../../blocks/index.ts';
import { testIdentity } from '../../blocks/testing/test-identity.ts';
import { TestLog } from '../../blocks/testing/test-log.ts';
import { realIo } from '../../io/index.ts';
import { IdentityVerifier, type Signer } from '../../model/index.ts';
import type { Repeated } from '../repeat.ts';
import { nodeMethods, type OtherNode } from './other-nodes.ts';
import { watchRoots } from './root-watch.ts';

const io = realIo();
const names = ['node0', 'node1', 'node2'];
let directory: string;
let signers: readonly Signer[];
let verifier: IdentityVerifier;
const chains: BlockGenerator[] = [];

/** The right chain, and one of a node that took a value for another. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-roots-'));
  const members = await Promise.all(names.map((name) => testIdentity(name)));
  const [first] = members;
  if (first === undefined) throw new Error('no members');
  signers = members.map(({ signer }) => signer);
  verifier = new IdentityVerifier(members.map(({ msp }) => msp));
  const rule = { recordsMax: 2, bytesMax: 9_000, cutBeforeReads: false };
  for (const value of ['right', 'wrong']) {
    const log = new TestLog(first).config(rule);
    for (let at = 0; at < 20; at++) log.batch([{ writes: { key: at === 5 ? value : 'same' } }]);
    const generator = await openBlockGenerator({
      io,
      directory: join(directory, value),
      signer: first.signer,
    });
    await generator.push(log.entries);
    chains.push(generator);
  }
});
afterAll(async () => {
  for (const chain of chains) await chain.close();
  await rm(directory, { recursive: true });
});

/** The part of a node's newest block of so many that it signs; the first node's chain is wrong. */
async function statement(node: number, height: number): Promise<RootStatement> {
  const [right, wrong] = chains as [BlockGenerator, BlockGenerator];
  const block = await (node === 0 ? wrong : right).store.block(height - 1);
  return { node: names[node] as string, block: signedPart(block, signers[node] as Signer) };
}

/** What the first of the nodes with so many blocks finds in one comparison. */
async function found(heights: readonly number[]): Promise<readonly RootVerdict[]> {
  const other = (node: number): OtherNode => ({
    name: names[node] as string,
    call: async (method, payload) => {
      const asked = new ByteReader(payload, 'request').u64();
      const answer = method === nodeMethods.height ? heights[node] : await statement(node, asked);
      return Buffer.from(JSON.stringify(answer));
    },
  });
  const verdicts: RootVerdict[] = [];
  let looks = 0;
  const looked = new Promise<void>((resolve) => {
    const now = async (): Promise<BlockStatus> => {
      if (++looks > 1) {
        resolve();
        throw new Error('one comparison is enough');
      }
      return { height: heights[0] as number } as BlockStatus;
    };
    watch = watchRoots({
      io,
      name: names[0] as string,
      others: async () => [other(1), other(2)],
      blocks: () => ({
        now,
        statement: async (height) => (await statement(0, height)).block,
        alarm: undefined,
      }),
      verifier: () => verifier,
      intervalMs: 1,
      onVerdict: (verdict) => verdicts.push(verdict),
      onStatus: () => undefined,
      onDoubt: () => undefined,
    });
  });
  await looked;
  await watch?.close();
  return verdicts;
}
let watch: Repeated | undefined;

it('is found wrong where a majority is', async () => {
  expect(await found([8, 8, 8])).toMatchObject([{ kind: 'differs', height: 8 }]);
});

it('is found wrong as soon as the slower of two nodes that are right can tell', async () => {
  expect(await found([8, 7, 4])).toMatchObject([
    { kind: 'open', height: 7 },
    { kind: 'differs', height: 4 },
  ]);
});

it('is not found wrong before that', async () => {
  expect(await found([8, 7, 1])).toMatchObject([
    { kind: 'open', height: 7 },
    { kind: 'agrees', height: 1 },
  ]);
});
