import { parentConnection } from '../../io/index.ts';
import { openStateReader } from '../lmdb-store.ts';

// Answers each frame: 'refresh', or a key to read.
const [directory = ''] = process.argv.slice(2);
const reader = openStateReader(directory);
const parent = parentConnection();
parent.onClose(() => process.exit(0));
parent.onFrame((frame) => {
  const request = frame.toString('latin1');
  if (request === 'refresh') reader.refresh();
  const row = reader.get(request);
  const rows = reader.range('', '');
  const answer = JSON.stringify({ row, version: reader.version(request), rows: rows.length });
  parent.send([Buffer.from(answer)]);
});
