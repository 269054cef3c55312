import * as fabric from '@hyperledger/fabric-protos';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { BlockVersion } from '../model/index.ts';
import {
  type BlockRule,
  type MspConfig,
  type Position,
  type Signer,
  sha256,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { StateTree } from '../state/index.ts';
import { BlockBuilder, chainStart, encodeBuiltBlock, signBuiltBlock } from './builder.ts';
import { Cutter } from './cutter.ts';
import { testIdentity } from './testing/test-identity.ts';
import { type TestCall, TestLog, testChannel } from './testing/test-log.ts';

let member: { msp: MspConfig; signer: Signer };
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
});

const small: BlockRule = { recordsMax: 7, bytesMax: 100_000, cutBeforeReads: true };

/** Cuts and builds a whole log; `parts` says how many entries are handed in at a time. */
function chain(entries: readonly AppliedEntry[], signer?: Signer): Buffer[] {
  const versions = new Map<Position, BlockVersion>();
  const cutter = new Cutter(chainStart.position, undefined);
  const builder = new BlockBuilder(chainStart, new StateTree({ bucketBits: 6 }));
  const blocks: Buffer[] = [];
  for (const entry of entries) {
    for (const cut of cutter.push(entry)) {
      const built = builder.build(cut, (position) => {
        return versions.get(position) ?? { block: 0, transaction: 9 };
      });
      for (const [transaction, position] of built.positions.entries()) {
        versions.set(position, { block: built.header.number, transaction });
      }
      const signatures = signer === undefined ? [] : [signBuiltBlock(built, signer)];
      blocks.push(encodeBuiltBlock(built, signatures));
    }
  }
  return blocks;
}

const keys = ['a', 'b', 'c', 'd', 'e'];
const call: fc.Arbitrary<TestCall> = fc.record(
  {
    reads: fc.uniqueArray(fc.constantFrom(...keys), { maxLength: 2 }),
    writes: fc.dictionary(
      fc.constantFrom(...keys),
      fc.option(fc.string({ unit: 'binary-ascii' }), { nil: undefined }),
      { maxKeys: 2 },
    ),
    range: fc.constant(['a', 'c'] as const),
    stale: fc.boolean(),
  },
  { requiredKeys: [] },
);
type Step = (log: TestLog) => unknown;
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(
        fc.array(call, { minLength: 1, maxLength: 9 }),
        fc.constantFrom('batch' as const, 'single' as const),
        fc.constantFrom(0, 0, 2, 3),
      )
      .map(
        ([calls, mode, gap]): Step =>
          (log) =>
            log.batch(calls, mode, gap),
      ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((log) => log.tick()) },
  { weight: 1, arbitrary: fc.constant<Step>((log) => log.fill()) },
  { weight: 1, arbitrary: fc.constant<Step>((log) => log.config(small)) },
);

describe('blocks', () => {
  test('two generators make the same bytes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const log = new TestLog(member).config(small);
        for (const one of steps) one(log);
        log.tick();
        const blocks = chain(log.entries);
        expect(chain(log.entries)).toEqual(blocks);
        expect(blocks.length).toBeGreaterThan(0);
      }),
      { numRuns: 30 },
    );
  });

  test('the last state root is the root over the rows', () => {
    const log = new TestLog(member).config(small);
    log.batch([
      { writes: { a: '1' } },
      { writes: { b: '2' } },
      { reads: ['a'], writes: { a: '3' } },
    ]);
    log.batch([{ stale: true, writes: { c: 'no' } }, { writes: { b: undefined } }]);
    log.tick();
    const cutter = new Cutter(chainStart.position, undefined);
    const builder = new BlockBuilder(chainStart, new StateTree());
    const built = log.entries
      .flatMap((entry) => cutter.push(entry))
      .map((cut) => builder.build(cut, () => ({ block: 0, transaction: 0 })));
    const expected = new StateTree();
    expected.update([...log.rows.values()]);
    expect(built.at(-1)?.stateRoot).toEqual(expected.stateRoot());
    // Block 0: configuration; 1: until the read of `a`; 2: the rest.
    expect(built.map((block) => block.positions.length)).toEqual([1, 2, 3]);
  });

  test('Fabric’s own classes read sensible fields', () => {
    const log = new TestLog(member).config(small);
    log.batch([{ writes: { a: '1', b: 'ü' } }, { writes: { c: '2' } }, { writes: { d: '3' } }]);
    log.tick();
    log.batch([{ reads: ['a', 'z'], range: ['a', 'c'], writes: { a: undefined } }], 'single');
    log.tick();
    const [genesis, , second] = chain(log.entries, member.signer).map((bytes) =>
      fabric.common.Block.deserializeBinary(bytes),
    );
    const configEnvelope = fabric.common.ConfigEnvelope.deserializeBinary(
      payloadOf(genesis as fabric.common.Block).getData_asU8(),
    );
    const group = configEnvelope.getConfig()?.getChannelGroup();
    const application = group?.getGroupsMap().get('Application');
    expect(application?.getGroupsMap().has('Org1MSP')).toBe(true);
    const mspValue = application?.getGroupsMap().get('Org1MSP')?.getValuesMap().get('MSP');
    const mspConfig = fabric.msp.MSPConfig.deserializeBinary(
      mspValue?.getValue_asU8() as Uint8Array,
    );
    const msp = fabric.msp.FabricMSPConfig.deserializeBinary(mspConfig.getConfig_asU8());
    expect(msp.getName()).toBe('Org1MSP');
    expect(msp.getRootCertsList_asU8()).toHaveLength(1);
    const admins = application?.getPoliciesMap().get('Admins')?.getPolicy();
    expect(admins?.getType()).toBe(1);
    const policy = fabric.common.SignaturePolicyEnvelope.deserializeBinary(
      admins?.getValue_asU8() as Uint8Array,
    );
    expect(policy.getRule()?.getNOutOf()?.getRulesList()[0]?.hasSignedBy()).toBe(true);
    expect(policy.getIdentitiesList()).toHaveLength(1);

    const block = second as fabric.common.Block;
    expect(block.getHeader()?.getNumber()).toBe(2);
    expect(block.getMetadata()?.getMetadataList_asU8()).toHaveLength(5);
    const payload = payloadOf(block);
    const header = payload.getHeader();
    const channelHeader = fabric.common.ChannelHeader.deserializeBinary(
      header?.getChannelHeader_asU8() as Uint8Array,
    );
    expect(channelHeader.getType()).toBe(3);
    expect(channelHeader.getChannelId()).toBe(testChannel);
    const signatureHeader = fabric.common.SignatureHeader.deserializeBinary(
      header?.getSignatureHeader_asU8() as Uint8Array,
    );
    const txId = sha256(signatureHeader.getNonce_asU8(), signatureHeader.getCreator_asU8());
    expect(channelHeader.getTxId()).toBe(txId.toString('hex'));
    const transaction = fabric.peer.Transaction.deserializeBinary(payload.getData_asU8());
    const [action] = transaction.getActionsList();
    const actionPayload = fabric.peer.ChaincodeActionPayload.deserializeBinary(
      action?.getPayload_asU8() as Uint8Array,
    );
    const responsePayload = fabric.peer.ProposalResponsePayload.deserializeBinary(
      actionPayload.getAction()?.getProposalResponsePayload_asU8() as Uint8Array,
    );
    const proposalHash = sha256(
      header?.getChannelHeader_asU8() as Uint8Array,
      action?.getHeader_asU8() as Uint8Array,
      actionPayload.getChaincodeProposalPayload_asU8(),
    );
    expect(Buffer.from(responsePayload.getProposalHash_asU8())).toEqual(proposalHash);
    const chaincodeAction = fabric.peer.ChaincodeAction.deserializeBinary(
      responsePayload.getExtension_asU8(),
    );
    expect(chaincodeAction.getResponse()?.getStatus()).toBe(200);
    expect(chaincodeAction.getChaincodeId()?.toObject()).toMatchObject({
      name: 'bank',
      version: '1.0',
    });
    const rwset = fabric.ledger.rwset.TxReadWriteSet.deserializeBinary(
      chaincodeAction.getResults_asU8(),
    );
    const kv = fabric.ledger.rwset.kvrwset.KVRWSet.deserializeBinary(
      rwset.getNsRwsetList()[0]?.getRwset_asU8() as Uint8Array,
    );
    const decoded = kv.toObject();
    expect(decoded.readsList).toEqual([
      { key: 'a', version: { blockNum: 1, txNum: 0 } },
      { key: 'z', version: undefined },
    ]);
    expect(decoded.writesList).toMatchObject([{ key: 'a', isDelete: true }]);
    expect(decoded.rangeQueriesInfoList[0]).toMatchObject({
      startKey: 'a',
      endKey: 'c',
      itrExhausted: true,
      rawReads: {
        kvReadsList: [
          { key: 'a', version: { blockNum: 1, txNum: 0 } },
          { key: 'b', version: { blockNum: 1, txNum: 0 } },
        ],
      },
    });
  });
});

function payloadOf(block: fabric.common.Block): fabric.common.Payload {
  const [data] = block.getData()?.getDataList_asU8() ?? [];
  const envelope = fabric.common.Envelope.deserializeBinary(data as Uint8Array);
  return fabric.common.Payload.deserializeBinary(envelope.getPayload_asU8());
}
