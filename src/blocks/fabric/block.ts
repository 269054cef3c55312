import { type Bytestring, DaybookError } from '../../base/index.ts';
import {
  identityBytes,
  ProtoMessage,
  ProtoWriter,
  type Signer,
  sha256,
} from '../../model/index.ts';

/*
 * Fabric's `common.Block{1: header, 2: data, 3: metadata}` and its hashes.
 */

/** `common.BlockHeader`. */
export interface BlockHeader {
  readonly number: number;
  /** Hash of the previous header; empty in block 0. */
  readonly previousHash: Uint8Array;
  readonly dataHash: Uint8Array;
}

/** Indices in a block's metadata. */
export const metadataIndex = {
  signatures: 0,
  lastConfig: 1,
  transactionsFilter: 2,
  orderer: 3,
  commitHash: 4,
} as const;

/**
 * What the block header is the hash of: ASN.1 DER
 * `SEQUENCE { INTEGER number, OCTET STRING previous_hash, OCTET STRING data_hash }`.
 */
export function headerDer(header: BlockHeader): Buffer {
  const body = Buffer.concat([
    der(0x02, derInteger(header.number)),
    der(0x04, header.previousHash),
    der(0x04, header.dataHash),
  ]);
  return der(0x30, body);
}

/** The block hash: SHA-256 of {@link headerDer}. The next block names it as its previous hash. */
export function headerHash(header: BlockHeader): Buffer {
  return sha256(headerDer(header));
}

/** The data hash: SHA-256 of all envelopes, one after the other. */
export function dataHash(envelopes: readonly Uint8Array[]): Buffer {
  return sha256(Buffer.concat(envelopes));
}

/** A block taken apart; byte fields are views. */
export interface BlockParts {
  readonly header: BlockHeader;
  readonly envelopes: readonly Buffer[];
  /** `common.BlockMetadata.metadata`, see {@link metadataIndex}. */
  readonly metadata: readonly Buffer[];
}

/**
 * Reads a `common.Block`.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeBlock(bytes: Uint8Array): BlockParts {
  const block = new ProtoMessage(bytes, 'block');
  const header = block.message(1, 'header');
  return {
    header: {
      number: header.number(1),
      previousHash: header.bytes(2),
      dataHash: header.bytes(3),
    },
    envelopes: block.message(2, 'data').repeated(1),
    metadata: block.message(3, 'metadata').repeated(1),
  };
}

/** Bytes of a `common.Block`. */
export function encodeBlock(parts: BlockParts): Buffer {
  const writer = new ProtoWriter(4096);
  writeBlock(parts, writer);
  return writer.finish();
}

/** Writes a `common.Block` into an empty writer. */
export function writeBlock(parts: BlockParts, writer: ProtoWriter): void {
  const { envelopes, metadata } = parts;
  for (let at = metadata.length - 1; at >= 0; at--) writer.bytesAlways(1, metadata[at] as Buffer);
  writer.message(3, 0);
  const dataEnd = writer.length;
  for (let at = envelopes.length - 1; at >= 0; at--) writer.bytesAlways(1, envelopes[at] as Buffer);
  writer.message(2, dataEnd);
  const headerEnd = writer.length;
  const { number, previousHash, dataHash: hash } = parts.header;
  writer.bytes(3, hash).bytes(2, previousHash).varint(1, number).message(1, headerEnd);
}

/** `common.Metadata`: signed bytes and signatures over them. */
export interface SignedMetadata {
  readonly value: Uint8Array;
  readonly signatures: readonly MetadataSignature[];
}

/** `common.MetadataSignature`. */
export interface MetadataSignature {
  /** `common.SignatureHeader{creator, nonce}`. */
  readonly signatureHeader: Uint8Array;
  readonly signature: Uint8Array;
}

/** Encodes a `common.Metadata`. */
export function encodeSignedMetadata(metadata: SignedMetadata): Buffer {
  const writer = new ProtoWriter(4096);
  for (const one of metadata.signatures.toReversed()) {
    const end = writer.length;
    writer.bytes(2, one.signature).bytes(1, one.signatureHeader).message(2, end);
  }
  return writer.bytes(1, metadata.value).finish();
}

/** @throws {DaybookError} `MALFORMED` */
export function decodeSignedMetadata(bytes: Uint8Array): SignedMetadata {
  const message = new ProtoMessage(bytes, 'metadata');
  return {
    value: message.bytes(1),
    signatures: message.repeated(2).map((one) => {
      const signature = new ProtoMessage(one, 'metadata signature');
      return { signatureHeader: signature.bytes(1), signature: signature.bytes(2) };
    }),
  };
}

/** What a block signature signs: metadata value ‖ signature header ‖ header DER. */
export function blockSigningBytes(
  value: Uint8Array,
  signatureHeader: Uint8Array,
  header: BlockHeader,
): Buffer {
  return Buffer.concat([value, signatureHeader, headerDer(header)]);
}

/** Signs a block. The nonce is taken from the block hash: a block needs no randomness. */
export function signBlock(
  signer: Signer,
  value: Uint8Array,
  header: BlockHeader,
): MetadataSignature {
  const signatureHeader = encodeSignatureHeader(
    identityBytes(signer.identity),
    headerHash(header).subarray(0, 24),
  );
  return {
    signatureHeader,
    signature: signer.sign(blockSigningBytes(value, signatureHeader, header)),
  };
}

/** `common.SignatureHeader{1: creator, 2: nonce}`. */
export function encodeSignatureHeader(creator: Uint8Array, nonce: Uint8Array): Buffer {
  return new ProtoWriter(creator.length + nonce.length + 16)
    .bytes(2, nonce)
    .bytes(1, creator)
    .finish();
}

/** The creator (serialised identity) and nonce of a `common.SignatureHeader`. */
export function decodeSignatureHeader(bytes: Uint8Array): { creator: Buffer; nonce: Buffer } {
  const header = new ProtoMessage(bytes, 'signature header');
  return { creator: header.bytes(1), nonce: header.bytes(2) };
}

/** `orderer.OrdererBlockMetadata{1: LastConfig{1: index}, 2: consenter_metadata}`. */
export function encodeOrdererMetadata(lastConfig: number, consenterMetadata: Uint8Array): Buffer {
  const writer = new ProtoWriter(consenterMetadata.length + 64);
  writer.bytes(2, consenterMetadata);
  const end = writer.length;
  return writer.varint(1, lastConfig).message(1, end).finish();
}

/** @throws {DaybookError} `MALFORMED` */
export function decodeOrdererMetadata(bytes: Uint8Array): {
  lastConfig: number;
  consenterMetadata: Buffer;
} {
  const message = new ProtoMessage(bytes, 'orderer metadata');
  return {
    lastConfig: message.message(1, 'last config').number(1),
    consenterMetadata: message.bytes(2),
  };
}

/** One write as it enters the commit hash. */
export interface CommittedWrite {
  readonly namespace: string;
  readonly key: Bytestring;
  /** `undefined` deletes. */
  readonly value: Bytestring | undefined;
  /** The version the write gives the key: block and number of the transaction in it. */
  readonly block: number;
  readonly transaction: number;
}

/**
 * Fabric's commit hash, from block 1 on:
 * `SHA-256(varint(number of flags) ‖ flags ‖ updates ‖ previous commit hash)`.
 *
 * @param writes - the last write of each key in the block, sorted by namespace, then key (bytes).
 * @param previous - of the block before; empty in block 1.
 */
export function commitHash(
  flags: Uint8Array,
  writes: readonly CommittedWrite[],
  previous: Uint8Array,
): Buffer {
  const writer = new ProtoWriter(256 + flags.length + writes.length * 96);
  writer.raw(previous);
  for (let at = writes.length - 1; at >= 0; at--) {
    const { namespace, key, value, block, transaction } = writes[at] as CommittedWrite;
    const end = writer.length;
    const versionEnd = writer.length;
    rawVersionNumber(writer, transaction);
    rawVersionNumber(writer, block);
    writer.message(6, versionEnd);
    if (value === undefined) writer.varint(4, 1);
    else writer.bytestring(5, value);
    writer.bytestring(3, key);
    if (writes[at - 1]?.namespace !== namespace) {
      writer.bytes(1, Buffer.from(namespace, 'utf8'));
    }
    writer.message(1, end);
  }
  writer.raw(flags).rawVarint(flags.length);
  return sha256(writer.view());
}

/** One byte: how many bytes follow; then the number, big-endian, without leading zeros. */
function rawVersionNumber(writer: ProtoWriter, value: number): void {
  let count = 0;
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) {
    writer.rawByte(rest % 256);
    count++;
  }
  writer.rawByte(count);
}

function der(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  if (length >= 0x80) {
    throw new DaybookError('MALFORMED', 'a block header’s hash is too long', {
      details: { what: 'block header' },
    });
  }
  return Buffer.concat([Buffer.of(tag, length), content]);
}

function derInteger(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.unshift(rest % 256);
    rest = Math.floor(rest / 256);
  } while (rest > 0);
  if ((bytes[0] as number) >= 0x80) bytes.unshift(0);
  return Buffer.from(bytes);
}
