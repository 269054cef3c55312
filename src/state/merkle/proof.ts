import { type Bytestring, bytesOf, bytestringOf, DaybookError } from '../../base/index.ts';
import { asPosition, type Position } from '../../model/index.ts';
import type { Row } from '../state.ts';
import {
  bitAt,
  emptyTree,
  rowContentHash,
  stateKeyHash,
  stateLeafHash,
  stateNodeHash,
  stateRootOf,
} from './hash.ts';

/** Where the path of a key ends in the tree: at its row, at nothing, or at another key's leaf. */
export type StateProofEnd =
  | { readonly kind: 'row'; readonly version: Position; readonly value: Bytestring }
  | { readonly kind: 'empty' }
  | { readonly kind: 'other'; readonly keyHash: Uint8Array; readonly contentHash: Uint8Array };

/** Proves what a state root says about one key: its value and version, or that there is none. */
export interface StateProof {
  /** State key: namespace ‖ 0x00 ‖ key. */
  readonly key: Bytestring;
  /** The other child at every step from the root down; 32 zero bytes where it is empty. */
  readonly siblings: readonly Uint8Array[];
  readonly end: StateProofEnd;
  /** Covers bulk updates that are recorded but not applied; they may concern this key. */
  readonly pendingRoot: Uint8Array;
}

/** What a state tree knows of a key: the path, and the leaf at its end (perhaps another key's). */
export interface StateProofPath {
  readonly siblings: readonly Uint8Array[];
  readonly leaf: { readonly keyHash: Uint8Array; readonly contentHash: Uint8Array } | undefined;
}

/**
 * Joins a path with the row from the state.
 *
 * @param row - the key's row in the state that the tree covers.
 * @throws {DaybookError} `PROOF_NOT_READY` when the row is not the one the tree has: the state is
 *   ahead of the tree. Give the older row, or ask again after the next block.
 */
export function completeStateProof(
  key: Bytestring,
  path: StateProofPath,
  row: Row | undefined,
  pendingRoot: Uint8Array,
): StateProof {
  const { siblings, leaf } = path;
  const isKey = leaf !== undefined && stateKeyHash(key).equals(leaf.keyHash);
  const fits =
    isKey === (row !== undefined) &&
    (row === undefined ||
      rowContentHash(row.version, row.value).equals(leaf?.contentHash as Uint8Array));
  if (!fits) {
    throw new DaybookError('PROOF_NOT_READY', 'the state has moved on since the last block');
  }
  const end: StateProofEnd =
    row !== undefined
      ? { kind: 'row', version: row.version, value: row.value }
      : leaf === undefined
        ? { kind: 'empty' }
        : { kind: 'other', ...leaf };
  return { key, siblings, end, pendingRoot };
}

/** What a proof shows. */
export type ProvenRow = { readonly version: Position; readonly value: Bytestring } | undefined;

/**
 * Checks a proof against a state root and returns what it proves: the row, or `undefined` for
 * "there is no such key".
 *
 * @throws {DaybookError} `PROOF_INVALID` when it does not lead to that root.
 */
export function verifyStateProof(stateRoot: Uint8Array, proof: StateProof): ProvenRow {
  const { siblings, end } = proof;
  const keyHash = stateKeyHash(proof.key);
  const depth = siblings.length;
  if (depth > 256 || siblings.some((hash) => hash.length !== 32)) throw invalid('siblings');
  let node: Buffer;
  if (end.kind === 'row') {
    node = stateLeafHash(keyHash, rowContentHash(end.version, end.value));
  } else if (end.kind === 'empty') {
    node = emptyTree;
  } else {
    if (end.keyHash.length !== 32 || end.contentHash.length !== 32) throw invalid('leaf');
    if (keyHash.equals(end.keyHash)) throw invalid('the other leaf is the key itself');
    for (let at = 0; at < depth; at++) {
      // A leaf elsewhere in the tree says nothing about this key.
      if (bitAt(keyHash, at) !== bitAt(end.keyHash, at)) throw invalid('the other leaf’s path');
    }
    node = stateLeafHash(end.keyHash, end.contentHash);
  }
  for (let at = depth - 1; at >= 0; at--) {
    const sibling = siblings[at] as Uint8Array;
    node = bitAt(keyHash, at) === 0 ? stateNodeHash(node, sibling) : stateNodeHash(sibling, node);
  }
  if (!stateRootOf(node, proof.pendingRoot).equals(stateRoot)) throw invalid('another root');
  return end.kind === 'row' ? { version: end.version, value: end.value } : undefined;
}

/** {@link StateProof} as JSON: bytes in hexadecimal, the key and value in base64. */
export interface StateProofJson {
  key: string;
  siblings: string[];
  end:
    | { kind: 'row'; version: number; value: string }
    | { kind: 'empty' }
    | { kind: 'other'; keyHash: string; contentHash: string };
  pendingRoot: string;
}

/** A proof as plain JSON. */
export function stateProofToJson(proof: StateProof): StateProofJson {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const { end } = proof;
  return {
    key: bytesOf(proof.key).toString('base64'),
    siblings: proof.siblings.map(hex),
    end:
      end.kind === 'row'
        ? { kind: 'row', version: end.version, value: bytesOf(end.value).toString('base64') }
        : end.kind === 'empty'
          ? { kind: 'empty' }
          : { kind: 'other', keyHash: hex(end.keyHash), contentHash: hex(end.contentHash) },
    pendingRoot: hex(proof.pendingRoot),
  };
}

/**
 * Reads {@link stateProofToJson}'s form.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function stateProofFromJson(json: StateProofJson): StateProof {
  try {
    const base64 = (text: string): Bytestring => bytestringOf(Buffer.from(text, 'base64'));
    const hex = (text: string): Buffer => Buffer.from(text, 'hex');
    const { end } = json;
    return {
      key: base64(json.key),
      siblings: json.siblings.map(hex),
      end:
        end.kind === 'row'
          ? { kind: 'row', version: asPosition(end.version), value: base64(end.value) }
          : end.kind === 'empty'
            ? { kind: 'empty' }
            : { kind: 'other', keyHash: hex(end.keyHash), contentHash: hex(end.contentHash) },
      pendingRoot: hex(json.pendingRoot),
    };
  } catch (cause) {
    throw new DaybookError('MALFORMED', 'malformed state proof', {
      cause,
      details: { what: 'state proof' },
    });
  }
}

function invalid(why: string): DaybookError {
  return new DaybookError('PROOF_INVALID', `the proof does not hold: ${why}`, {
    details: { what: why },
  });
}
