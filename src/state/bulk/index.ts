export * from './bulk-work.ts';
export * from './pending-updates.ts';
export { startSweepProcess } from './sweep-process.ts';
export type { Sweeper, SweepRequest, SweepSlice, SweptRow } from './sweeper.ts';
export * from './update-operators.ts';
export * from './updated-rows.ts';
