export { type BucketStore, MemoryBucketStore, openBucketStore } from './bucket-store.ts';
export * from './hash.ts';
export * from './proof.ts';
export * from './tree.ts';
