import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { common } from '@hyperledger/fabric-protos';
import { expect, test } from 'vitest';
import { FabricPeer } from './peer.ts';

const folder = join(
  process.env.DAYBOOK_DATA ?? resolve(import.meta.dirname, '../../../shared/data'),
  'fabric/blocks',
);
const present = existsSync(folder);
if (!present) console.warn('skipped: real Fabric blocks (set DAYBOOK_DATA to their folder)');

test.skipIf(!present)('the peer of these tests judges a real chain as its real peer did', () => {
  const judge = new FabricPeer();
  for (let number = 0; number < 16; number++) {
    const bytes = readFileSync(join(folder, `block${number}.pb`));
    const stored = common.Block.deserializeBinary(bytes).getMetadata()?.getMetadataList_asU8()[2];
    const flags = judge.commit(bytes);
    expect({ number, flags }).toEqual({ number, flags: [...(stored ?? [])] });
  }
});
