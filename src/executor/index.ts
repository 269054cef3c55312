export * from './create-executor.ts';
export * from './executor.ts';
export * from './re-execution.ts';
