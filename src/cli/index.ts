export type { CliContext } from './context.ts';
export { type ExitCode, exitCodes } from './exit-codes.ts';
export { runCli } from './run.ts';
export type { Terminal } from './terminal.ts';
