import { realDisk } from '../real-disk.ts';
import { parentConnection } from '../real-processes.ts';

// Test program: holds the lock of the directory named by its argument until it is killed.
const parent = parentConnection();
await realDisk().lock(process.argv[2] ?? '');
parent.onFrame(() => undefined);
parent.send([Buffer.from('locked')]);
