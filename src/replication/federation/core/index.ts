export * from './contract-core.ts';
export { MemoryStore } from './memory-store.ts';
