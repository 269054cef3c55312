export { type BucketStore, MemoryBucketStore, openBucketStore } from './bucket-store.ts';
export * from './hash.ts';
export * from './proof.ts';
export * from './restore.ts';
export * from './tree.ts';
