import { parentConnection } from '../real-processes.ts';

// Test program: says that it is there, and never comes back.
const parent = parentConnection();
parent.onFrame(() => undefined);
parent.send([Buffer.from('looping')]);
setTimeout(() => {
  for (;;);
}, 100);
