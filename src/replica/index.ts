export * from './catch-up.ts';
export * from './open-replica.ts';
export { replayedBefore } from './read-entry.ts';
export * from './replay.ts';
export * from './replica.ts';
