export * from './create-executor.ts';
export * from './executor.ts';
export * from './executor-options.ts';
export type { Endorser } from './prepared.ts';
export * from './re-execution.ts';
