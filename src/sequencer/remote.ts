import { ByteReader, type Bytestring, ByteWriter, limits } from '../base/index.ts';
import type { RpcPeer } from '../io/index.ts';
import { asAddress } from '../model/index.ts';
import type { Grant, GroupSummary, Sequencer } from './sequencer.ts';

/** The sequencer's method on a connection that it may share with the shared log. */
const requestMethod = 100;

/** Answers requests that come over a connection. */
export function serveSequencer(sequencer: Sequencer, peer: RpcPeer): void {
  peer.handle(requestMethod, async (payload) => [
    encodeGrant(await sequencer.request(decodeGroup(payload))),
  ]);
}

/**
 * A sequencer at the other end of a connection. When the connection closes, requests fail with
 * `PEER_UNREACHABLE`; a token granted meanwhile is lost and its hole is filled by whoever waits.
 */
export function remoteSequencer(peer: RpcPeer): Sequencer {
  return {
    request: async (group) =>
      decodeGrant(await peer.call(requestMethod, groupParts(group)), group.count),
  };
}

/* Group: text requester ‖ u16 count ‖ summaries, see `GroupSummary`.
   Grant: u8 granted ‖ (u64 epoch ‖ u64 address, or u64 next) ‖ u16 conflicts ‖ per conflict u16
   index, key. */

function groupParts({ requester, count, summaries }: GroupSummary): Uint8Array[] {
  const header = new ByteWriter(64);
  header.text(requester).u16(count);
  return [header.view(), summaries];
}

function decodeGroup(payload: Buffer): GroupSummary {
  const reader = new ByteReader(payload, 'group summary');
  const requester = reader.text(limits.nameBytesMax);
  return { requester, count: reader.u16(), summaries: reader.raw(reader.remaining) };
}

function encodeGrant(grant: Grant): Buffer {
  const writer = new ByteWriter(64);
  if (grant.token === undefined) writer.u8(0).u64(grant.next ?? 0);
  else writer.u8(1).u64(grant.token.epoch).u64(grant.token.address);
  const refused = grant.conflicts.filter((conflict) => conflict !== undefined).length;
  writer.u16(refused);
  grant.conflicts.forEach((conflict, index) => {
    if (conflict !== undefined) writer.u16(index).bytestring(conflict);
  });
  return writer.view();
}

function decodeGrant(payload: Buffer, records: number): Grant {
  const reader = new ByteReader(payload, 'grant');
  const granted: Pick<Grant, 'token' | 'next'> =
    reader.u8() === 0
      ? { token: undefined, next: asAddress(reader.u64()) }
      : { token: { epoch: reader.u64(), address: asAddress(reader.u64()) } };
  const conflicts = new Array<Bytestring | undefined>(records).fill(undefined);
  for (let count = reader.u16(); count > 0; count--) {
    const index = reader.u16();
    if (index >= records) reader.fail('index of a record');
    conflicts[index] = reader.bytestring(limits.frameBytesMax);
  }
  reader.finish();
  return { ...granted, conflicts };
}
