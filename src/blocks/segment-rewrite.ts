import { indexName, lengthPrefix, segmentHeights, segmentName } from './block-files.ts';
import { bytesAt, placeAt, placesOf, readerOf, type SegmentDirectory } from './segment-files.ts';
import type { BlockPlace, IndexedRecords, SegmentIndex } from './segment-index.ts';

/** A block that comes in the place of another. */
export interface NewBlock extends IndexedRecords {
  readonly bytes: Buffer;
}

/**
 * Writes a segment file anew, with other blocks in the place of some. What is damaged beside them stays
 * as it is, as far as it is known where it lies.
 *
 * @returns its index, which is written, too.
 */
export async function rewriteSegment(
  { disk, directory }: SegmentDirectory,
  index: SegmentIndex,
  blocks: ReadonlyMap<number, NewBlock>,
): Promise<SegmentIndex> {
  const { firstHeight } = index;
  const path = `${directory}/${segmentName(firstHeight)}`;
  const before = await disk.open(path, { create: true });
  const parts: Buffer[] = [];
  const moved: { readonly place: BlockPlace; readonly records?: IndexedRecords }[] = [];
  try {
    const read = await readerOf(before);
    let end = 0;
    for (const [at, place] of placesOf(index).entries()) {
      const made = blocks.get(firstHeight + at);
      const bytes = made?.bytes ?? (await bytesAt(place, read));
      const prefix = bytes.length === 0 ? bytes : lengthPrefix(bytes.length);
      parts.push(prefix, bytes);
      const offset = end + prefix.length;
      end = offset + bytes.length;
      const { sum } = place;
      if (made !== undefined) moved.push({ place: placeAt(offset, bytes), records: made });
      else moved.push({ place: { offset, length: bytes.length, sum } });
    }
  } finally {
    await before.close();
  }
  const made = index.moved(moved);
  const indexPath = `${directory}/${indexName(firstHeight)}`;
  await disk.writeFile(path + next, Buffer.concat(parts));
  await disk.writeFile(indexPath + next, made.encode());
  // From here on `finishRewrites` does the rest after a crash.
  await disk.rename(path + next, path);
  await disk.rename(indexPath + next, indexPath);
  return made;
}

/** What a file is called that is to take another's place. */
const next = '.next';

/**
 * Ends what a crash broke off: a segment and its index are replaced together. Without that, what was
 * damaged would be taken for a torn end, or for good, since only the index tells.
 */
export async function finishRewrites({
  disk,
  directory,
}: Pick<SegmentDirectory, 'disk' | 'directory'>): Promise<void> {
  const names = new Set(await disk.list(directory));
  const take = async (name: string): Promise<void> =>
    names.has(name + next)
      ? await disk.rename(`${directory}/${name}${next}`, `${directory}/${name}`)
      : undefined;
  for (const firstHeight of segmentHeights([...names])) {
    const [segment, index] = [segmentName(firstHeight), indexName(firstHeight)];
    if (names.has(index + next)) {
      await take(segment);
      await take(index);
    } else if (names.has(segment + next)) await disk.remove(`${directory}/${segment}${next}`);
  }
}
