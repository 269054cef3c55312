import { DaybookError, limits } from '../base/index.ts';
import { asPosition, type Position, ProtoMessage, ProtoWriter } from '../model/index.ts';

/**
 * What a block says beyond Fabric's own format. It travels as `consenter_metadata` in the block's
 * signed metadata, so a block signature covers it.
 */
export interface BlockProof {
  /** Commits to the whole state after the block, see `stateRootOf`. */
  readonly stateRoot: Uint8Array;
  /** Root of the history tree over all records up to and including this block. */
  readonly historyRoot: Uint8Array;
  /** Number of records under that root. */
  readonly historySize: number;
  /** The block covers the log positions `first <= position < end`; the next one begins at `end`. */
  readonly first: Position;
  readonly end: Position;
  /** Position of each transaction of the block, ascending. */
  readonly positions: readonly Position[];
  /** Log time at the last record, milliseconds since 1970. */
  readonly logTimeMs: number;
}

const proofVersion = 1;

/** Bytes of a {@link BlockProof}; positions as runs (gap, count), which are few. */
export function encodeBlockProof(proof: BlockProof): Buffer {
  const runs: number[] = [];
  let next: number = proof.first;
  for (const position of proof.positions) {
    if (position === next && runs.length > 0) runs[runs.length - 1] = (runs.at(-1) as number) + 1;
    else runs.push(position - next, 1);
    next = position + 1;
  }
  const writer = new ProtoWriter(256 + runs.length * 8);
  writer.varint(8, proof.logTimeMs);
  const end = writer.length;
  for (const number of runs.reverse()) writer.rawVarint(number);
  writer.message(7, end);
  writer.varint(6, proof.end).varint(5, proof.first).varint(4, proof.historySize);
  writer.bytes(3, proof.historyRoot).bytes(2, proof.stateRoot).varint(1, proofVersion);
  return writer.finish();
}

/**
 * Reads {@link encodeBlockProof}'s bytes.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeBlockProof(bytes: Uint8Array): BlockProof {
  const message = new ProtoMessage(bytes, 'block proof');
  const first = asPosition(message.number(5));
  const positions: Position[] = [];
  let next: number = first;
  const runs = varints(message.bytes(7));
  for (let at = 0; at + 1 < runs.length; at += 2) {
    next += runs[at] as number;
    const count = runs[at + 1] as number;
    if (positions.length + count > limits.recordsPerBlockMax || next + count > 2 ** 53) {
      throw new DaybookError('MALFORMED', 'malformed block proof: positions', {
        details: { what: 'block proof' },
      });
    }
    for (let left = count; left > 0; left--) positions.push(next++ as Position);
  }
  return {
    stateRoot: message.bytes(2),
    historyRoot: message.bytes(3),
    historySize: message.number(4),
    first,
    end: asPosition(message.number(6)),
    positions,
    logTimeMs: message.number(8),
  };
}

function varints(bytes: Buffer): number[] {
  const numbers: number[] = [];
  let value = 0;
  let factor = 1;
  for (const byte of bytes) {
    value += (byte & 0x7f) * factor;
    factor *= 0x80;
    if (byte < 0x80) {
      numbers.push(value);
      value = 0;
      factor = 1;
    }
  }
  return numbers;
}
