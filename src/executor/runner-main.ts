/* The contract process's program; started by `runner.ts`, never by hand. */

import { createContractRuntime } from '../contract/index.ts';
import { parentConnection, realIo } from '../io/index.ts';
import { openStateReader } from '../state/index.ts';
import { serveContracts } from './contract-process.ts';

const io = realIo();

/**
 * Nothing can be trusted after an error that nobody caught. The executor executes what was not
 * answered again, one call at a time, until it finds the one to blame.
 */
function end(error: unknown): void {
  process.stderr.write(`contract process: ${String(error)}\n`);
  process.exit(1);
}

process.on('uncaughtException', end);
process.on('unhandledRejection', end);

serveContracts({
  io,
  connection: parentConnection(),
  openReader: openStateReader,
  createRuntime: (prepare) =>
    createContractRuntime({ timers: io.timers, onPoisoned: end, prepare }),
});
