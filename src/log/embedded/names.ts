import type { Address } from '../../model/index.ts';

/*
 * Files of a log's directory. The names of the index files alone tell which segment holds which
 * addresses, so that opening a long log reads the directory and little else.
 *
 *   0000000007.log              segment of generation 7
 *   0000000007.350-999.index    its index: it is full and holds addresses 350 to 999
 *   meta                        sealed epoch and trim point
 *   spare                       a file on its way to its next life as a segment
 */

const logName = /^(\d{10})\.log$/;
const indexName = /^(\d{10})\.(\d+)-(\d+)\.index$/;

/** Name of the file with a {@link LogMeta}; see `meta.ts`. */
export const metaName = 'meta';
/** Name of a segment file that is ready to be used. */
export const spareName = 'spare';

/** What the name of an index file says. */
export interface IndexFile {
  readonly generation: number;
  readonly first: Address;
  readonly last: Address;
}

/** Name of a segment's file. */
export function segmentFileName(generation: number): string {
  return `${String(generation).padStart(10, '0')}.log`;
}

/** Name of an index file; {@link IndexFile} says what it tells. */
export function indexFileName(file: IndexFile): string {
  return `${String(file.generation).padStart(10, '0')}.${file.first}-${file.last}.index`;
}

/** Sorts a directory's names into segments and indexes; others are not the log's. */
export function parseNames(names: readonly string[]): {
  generations: number[];
  indexes: IndexFile[];
} {
  const generations: number[] = [];
  const indexes: IndexFile[] = [];
  for (const name of names) {
    const log = logName.exec(name);
    if (log !== null) generations.push(Number(log[1]));
    const index = indexName.exec(name);
    if (index !== null) {
      indexes.push({
        generation: Number(index[1]),
        first: Number(index[2]) as Address,
        last: Number(index[3]) as Address,
      });
    }
  }
  return {
    generations: generations.sort((a, b) => a - b),
    indexes: indexes.sort((a, b) => a.generation - b.generation),
  };
}
