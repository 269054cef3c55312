import { expect, it } from 'vitest';
import { ByteWriter } from '../base/index.ts';
import { realIo, rpcPeer } from '../io/index.ts';
import { asAddress, asPosition, positionOf, type ReadVersion } from '../model/index.ts';
import { SequencerCore } from './core.ts';
import { localSequencer } from './local.ts';
import { remoteSequencer, serveSequencer } from './remote.ts';
import { encodeRecordSummary, groupSummary } from './summary.ts';

function summary(key: string, version: ReadVersion, snapshot = start): Buffer {
  const writer = new ByteWriter();
  encodeRecordSummary(
    {
      snapshot,
      urgent: false,
      reads: [{ stateKey: key, version }],
      ranges: [],
      writes: [key],
      writtenRanges: [],
    },
    writer,
  );
  return writer.finish();
}

const start = positionOf(asAddress(7), 0);

it('gives the same answers over a connection', async () => {
  const { network } = realIo();
  const sequencer = localSequencer(new SequencerCore({ epoch: 3, start: asAddress(7) }));
  const listener = await network.listen('127.0.0.1:0', (connection) => {
    serveSequencer(sequencer, rpcPeer(connection));
  });
  const peer = rpcPeer(await network.connect(listener.address));
  const remote = remoteSequencer(peer);
  const group = groupSummary('one', [summary('k', undefined), summary('k', undefined)]);
  expect(await remote.request(group)).toEqual({
    token: { epoch: 3, address: 7 },
    conflicts: [undefined, 'k'],
  });
  expect(await remote.request(groupSummary('two', [summary('k', undefined)]))).toEqual({
    token: undefined,
    conflicts: ['k'],
    next: 8,
  });
  await expect(
    remote.request(groupSummary('one', [summary('k', undefined, asPosition(0))])),
  ).rejects.toMatchObject({
    code: 'SEQUENCER_NOT_READY',
    retry: 'refresh',
  });
  await expect(
    remote.request(groupSummary('one', [Buffer.from('nonsense')])),
  ).rejects.toMatchObject({ code: 'MALFORMED' });
  peer.close();
  await expect(remote.request(group)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  await listener.close();
});
