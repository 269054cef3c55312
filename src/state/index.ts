export * from './lmdb-store.ts';
export * from './memory-store.ts';
export * from './merkle/index.ts';
export * from './open-state.ts';
export * from './overlay.ts';
export * from './query-index.ts';
export * from './state.ts';
export * from './store.ts';
