import { DaybookError } from '../../base/index.ts';
import {
  type Compare,
  compareResult,
  compareTarget,
  type RangeResponse,
  type TxnResponse,
} from './etcd-api.ts';

/** The condition that a key does not exist. */
export function absent(key: Buffer): Compare {
  const { create: target } = compareTarget;
  return { key, target, result: compareResult.equal, create_revision: 0 };
}

/** The condition that a key exists. */
export function present(key: Buffer): Compare {
  const { create: target } = compareTarget;
  return { key, target, result: compareResult.greater, create_revision: 0 };
}

/** The condition that a key was last changed at `revision`. */
export function unchangedSince(revision: number, key: Buffer): Compare {
  const { mod: target } = compareTarget;
  return { key, target, result: compareResult.equal, mod_revision: revision };
}

/** What a transaction read as its operation number `index`. */
export function rangeAt(answer: TxnResponse, index: number): RangeResponse {
  const range = answer.responses[index]?.response_range;
  if (!range) throw new DaybookError('INTERNAL', 'etcd answered something else than asked');
  return range;
}
