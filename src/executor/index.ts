export * from './create-executor.ts';
export * from './executor.ts';
