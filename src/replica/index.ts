export * from './catch-up.ts';
export * from './open-replica.ts';
export * from './replay.ts';
export * from './replica.ts';
