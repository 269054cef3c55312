import { DaybookError } from '../../base/index.ts';
import type { Row } from '../state.ts';
import { noPendingUpdates } from './hash.ts';
import { StateTree, type StateTreeOptions } from './tree.ts';

const chunkRows = 10_000;

/**
 * Builds the tree over rows from elsewhere (a snapshot) and checks that they are the whole state
 * that a state root stands for: nothing changed, missing or added.
 *
 * @param rows - in any order, each key once.
 * @throws {DaybookError} `SNAPSHOT_INVALID` when they are not.
 */
export function restoreStateTree(
  rows: Iterable<Row>,
  stateRoot: Uint8Array,
  options: StateTreeOptions = {},
  pendingRoot: Uint8Array = noPendingUpdates,
): StateTree {
  const tree = new StateTree(options);
  let chunk: Row[] = [];
  for (const row of rows) {
    chunk.push(row);
    if (chunk.length < chunkRows) continue;
    tree.update(chunk);
    // Hashes what has come so far, so that no more than a chunk waits in memory.
    tree.root();
    chunk = [];
  }
  tree.update(chunk);
  if (!tree.stateRoot(pendingRoot).equals(stateRoot)) {
    throw new DaybookError('SNAPSHOT_INVALID', 'the rows are not those of the state root', {
      details: { what: 'state rows', rows: tree.rows },
    });
  }
  return tree;
}
