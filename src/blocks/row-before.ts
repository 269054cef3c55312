import type { Bytestring } from '../base/index.ts';
import type { Position } from '../model/index.ts';
import type { Row, State } from '../state/index.ts';

const pageRows = 64;
const pagesMax = 16;

/**
 * Reads rows as they were before a position: what a key proof needs, since the live state is ahead
 * of the newest block. Looks back over at most 1,024 versions of the key.
 *
 * @returns `undefined` when there was no row, or it lies too far back: then the proof is
 *   `PROOF_NOT_READY`, never wrong.
 */
export function rowsBefore(
  state: Pick<State, 'get' | 'history'>,
): (key: Bytestring, position: Position) => Row | undefined {
  return (key, position) => {
    const live = state.get(key);
    if (live !== undefined && live.version < position) return live;
    let bookmark = '';
    for (let page = 0; page < pagesMax; page++) {
      const found = state.history(key, pageRows, bookmark);
      const row = found.rows.find(({ version }) => version < position);
      if (row !== undefined) {
        const { value, version } = row;
        return value === undefined ? undefined : { key, value, version };
      }
      if (found.bookmark === '') return undefined;
      bookmark = found.bookmark;
    }
    return undefined;
  };
}
