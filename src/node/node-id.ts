import { join } from 'node:path';
import type { Io } from '../io/index.ts';

const idBytes = 16;

/**
 * The id of the node whose directory this is, made when there is none yet: it tells two nodes of the
 * same name apart, and a node that was started again from another one.
 */
export async function openNodeId(
  io: Pick<Io, 'disk' | 'random'>,
  directory: string,
): Promise<string> {
  const file = join(directory, 'node-id');
  const known = (await io.disk.readFile(file))?.toString('utf8') ?? '';
  if (/^[0-9a-f]{32}$/.test(known)) return known;
  const id = Buffer.from(io.random.bytes(idBytes)).toString('hex');
  await io.disk.makeDirectory(directory);
  await io.disk.writeFile(file, Buffer.from(id));
  return id;
}
