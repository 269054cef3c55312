#!/usr/bin/env node
import { realIo } from '../io/index.ts';
import { runCli } from './run.ts';

let asked = false;
const interrupted = new Promise<void>((resolve) => {
  const stop = (exitCode: number): void => {
    if (!asked) process.exit(exitCode);
    resolve();
    // A second signal must end a shutdown that hangs.
    asked = false;
  };
  process.on('SIGINT', () => stop(130));
  process.on('SIGTERM', () => stop(143));
});
// A reader that goes away (`daybook log tail | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 70);
});

// The timers of `io` do not keep a process alive: one that only waits would end without a word.
const alive = setInterval(() => undefined, 60_000);
const exitCode = await runCli(process.argv.slice(2), {
  io: realIo(),
  terminal: {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    interrupted: () => {
      asked = true;
      return interrupted;
    },
  },
  workingDirectory: process.cwd(),
});
clearInterval(alive);
// A bench, which is a program of its own, has said how it ended.
if (exitCode !== 0) process.exitCode = exitCode;
