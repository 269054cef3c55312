export * from './core.ts';
export * from './decoded-group.ts';
export * from './local.ts';
export * from './remote.ts';
export * from './sequencer.ts';
export * from './summary.ts';
