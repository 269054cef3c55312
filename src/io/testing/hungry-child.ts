// Test program: prints a line, then takes more memory than its heap may have.
import { parentConnection } from '../real-processes.ts';

parentConnection();
process.stderr.write('a line of its own\n');
setTimeout(() => {
  const kept: number[][] = [];
  for (;;) kept.push(new Array<number>(100_000).fill(kept.length + 0.5));
}, 10);
