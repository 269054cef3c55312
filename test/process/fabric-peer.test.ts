import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { common, ledger, peer } from '@hyperledger/fabric-protos';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { blockFiles } from '../../src/blocks/index.ts';
import { runCaptured } from '../../src/cli/testing/run-captured.ts';
import { type CallResult, type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { FabricPeer } from '../fabric/peer.ts';
import { built, root } from './built.ts';

/*
 * Transactions signed singly, on a real network of two executors, judged by a peer that follows
 * Fabric's rules (`test/fabric/peer.ts`): it finds valid what replay found valid.
 */

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

let directory: string;
let network: NodeRoom.Network;
let client: Client;
let opened: CallResult;
let inBatch: CallResult;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-fabric-peer-'));
  network = await startNetwork({ directory, executors: 2, httpPort: 0, tickIntervalMs: 200 });
  const { channel, gateways, signer } = network;
  const file = { version: 1, channel, gateways, mspId: signer.identity.mspId, identity: 'admin' };
  writeFileSync(join(directory, 'network.json'), JSON.stringify(file));
  client = await connect({ gateways, channel, signer, signing: 'single' });
  await client.deploy(await bundleContract(join(root, 'examples/contracts/bank')));
  opened = await client.submit('bank', 'open', ['alice', 'Alice', '100']);
  await client.submit('bank', 'open', ['bob', 'Bob', '0']);
  // All of them read and write the same two rows: most are endorsed more than once.
  await Promise.all(
    Array.from({ length: 8 }, () => client.submit('bank', 'transfer', ['alice', 'bob', '0.5'])),
  );
  await Promise.all([
    client.submit('bank', 'total', ['account/', 'account0']),
    client.submit('bank', 'open', ['carol', 'Carol', '1']),
  ]);
  const batches = await connect({ gateways, channel, signer });
  inBatch = await batches.submit('bank', 'open', ['dora', 'Dora', '1']);
  await batches.close();
}, 90_000);

afterAll(async () => {
  await client.close();
  await network.close();
  rmSync(directory, { recursive: true, force: true });
});

/** The first node's blocks, once they hold everything. */
async function chain(): Promise<Buffer[]> {
  const until = performance.now() + 60_000;
  for (;;) {
    const { executors } = await network.status();
    if ((executors[0]?.status?.blocks?.position ?? 0) > inBatch.position) break;
    if (performance.now() > until) throw new Error('the blocks did not come');
    await sleep(50);
  }
  const blocks: Buffer[] = [];
  const folder = join(directory, 'executor-1/chain/blocks');
  for await (const bytes of blockFiles(realIo().disk, folder)) blocks.push(Buffer.from(bytes));
  return blocks;
}

test('results and state are those of any other transaction', async () => {
  expect((await client.evaluate('bank', 'balance', ['bob'])).text()).toBe('4');
  await expect(client.submit('bank', 'transfer', ['alice', 'nobody', '1'])).rejects.toMatchObject({
    code: 'CONTRACT_REJECTED',
    details: { txId: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  const status = await client.status(opened.txId);
  expect(status).toMatchObject({ valid: true, position: opened.position });
}, 60_000);

test('a Fabric peer finds valid what replay found valid, and refuses what a batch signed', async () => {
  const judge = new FabricPeer();
  let valid = 0;
  for (const bytes of await chain()) {
    const block = common.Block.deserializeBinary(bytes);
    const stored = [...(block.getMetadata()?.getMetadataList_asU8()[2] ?? [])];
    const ids = (block.getData()?.getDataList_asU8() ?? []).map(txIdOf);
    const flags = judge.commit(bytes);
    const expected = stored.map((code, at) => (ids[at] === inBatch.txId ? 4 : code));
    expect({ flags, reasons: [...judge.reasons] }).toEqual({
      flags: expected,
      reasons: [...judge.reasons],
    });
    valid += flags.filter((code) => code === 0).length;
  }
  // The configuration, the deployment, three accounts, eight transfers, a sum.
  expect(valid).toBe(14);
}, 60_000);

test('the chain holds, executed again from its files', async () => {
  await chain();
  const checked = await runCaptured(directory, [
    ...['verify', 'chain', 'executor-1', '--execute', '--trust', 'identities/msp.json', '--json'],
  ]);
  expect(checked).toMatchObject({ code: 0, err: '' });
  expect(JSON.parse(checked.out)).toMatchObject({ valid: 14, execution: { executed: 14 } });
}, 60_000);

const real = join(
  process.env.DAYBOOK_DATA ?? resolve(root, '../shared/data'),
  'fabric/blocks/block4.pb',
);
if (!existsSync(real)) console.warn('skipped: real Fabric blocks (set DAYBOOK_DATA)');

test.skipIf(!existsSync(real))(
  'an envelope has the fields of a real one, and no others',
  async () => {
    const find = async (): Promise<Uint8Array> => {
      for (const bytes of await chain()) {
        for (const envelope of common.Block.deserializeBinary(bytes)
          .getData()
          ?.getDataList_asU8() ?? []) {
          if (txIdOf(envelope) === opened.txId) return envelope;
        }
      }
      throw new Error('not in a block');
    };
    // Both read a key that is absent, and write it.
    const theirs = common.Block.deserializeBinary(readFileSync(real)).getData()?.getDataList_asU8();
    expect(shapeOf(await find())).toEqual(shapeOf(theirs?.[0] ?? new Uint8Array()));
  },
  60_000,
);

function txIdOf(bytes: Uint8Array): string {
  const payload = common.Payload.deserializeBinary(
    common.Envelope.deserializeBinary(bytes).getPayload_asU8(),
  );
  const header = payload.getHeader()?.getChannelHeader_asU8() ?? new Uint8Array();
  return common.ChannelHeader.deserializeBinary(header).getTxId();
}

/** Numbers and wire types of the fields of nested messages, in the order of their bytes. */
function shapeOf(bytes: Uint8Array): unknown {
  const payload = (envelope: Uint8Array): Uint8Array =>
    common.Envelope.deserializeBinary(envelope).getPayload_asU8();
  const { data, header } = partsOf(payload(bytes));
  const [action] = peer.Transaction.deserializeBinary(data).getActionsList();
  const actionPayload = peer.ChaincodeActionPayload.deserializeBinary(
    action?.getPayload_asU8() ?? new Uint8Array(),
  );
  const response = actionPayload.getAction()?.getProposalResponsePayload_asU8() ?? new Uint8Array();
  const extension = peer.ProposalResponsePayload.deserializeBinary(response).getExtension_asU8();
  const chaincode = peer.ChaincodeAction.deserializeBinary(extension);
  const results = ledger.rwset.TxReadWriteSet.deserializeBinary(chaincode.getResults_asU8());
  const proposal = actionPayload.getChaincodeProposalPayload_asU8();
  const input = peer.ChaincodeProposalPayload.deserializeBinary(proposal).getInput_asU8();
  return {
    envelope: fields(bytes),
    payload: fields(payload(bytes)),
    channelHeader: fields(header.getChannelHeader_asU8()),
    extension: fields(
      common.ChannelHeader.deserializeBinary(header.getChannelHeader_asU8()).getExtension_asU8(),
    ),
    signatureHeader: fields(header.getSignatureHeader_asU8()),
    transaction: fields(data),
    action: fields(action?.serializeBinary() ?? new Uint8Array()),
    actionPayload: fields(action?.getPayload_asU8() ?? new Uint8Array()),
    endorsement: fields(
      actionPayload.getAction()?.getEndorsementsList()[0]?.serializeBinary() ?? new Uint8Array(),
    ),
    proposal: fields(proposal),
    input: fields(input),
    response: fields(response),
    chaincode: fields(extension),
    sets: results.getNsRwsetList().map((set) => fields(set.serializeBinary())),
    rows: results.getNsRwsetList().map((set) => fields(set.getRwset_asU8())),
    namespaces: results.getNsRwsetList().map((set) => set.getNamespace().startsWith('_')),
  };
}

function partsOf(bytes: Uint8Array): { data: Uint8Array; header: common.Header } {
  const payload = common.Payload.deserializeBinary(bytes);
  return { data: payload.getData_asU8(), header: payload.getHeader() ?? new common.Header() };
}

/** Tags of a message's fields in order. */
function fields(bytes: Uint8Array): number[] {
  const tags: number[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    tags.push(tag);
    const value = varint();
    if (tag % 8 !== 0) at += value;
  }
  return tags;
}
