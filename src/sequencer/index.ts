export * from './core.ts';
export * from './local.ts';
export * from './remote.ts';
export * from './sequencer.ts';
export * from './summary.ts';
