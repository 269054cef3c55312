import { dirname } from 'node:path';
import type { Io } from '../io/index.ts';

const keyBytes = 32;

/** Reads the key that signs followers' cursors, or makes one. */
export async function openCursorKey(
  io: Pick<Io, 'disk' | 'random'>,
  file: string,
): Promise<Uint8Array> {
  const known = await io.disk.readFile(file);
  if (known !== undefined && known.length === keyBytes) return known;
  const key = io.random.bytes(keyBytes);
  await io.disk.makeDirectory(dirname(file));
  await io.disk.writeFile(file, key, { ownerOnly: true });
  return key;
}
