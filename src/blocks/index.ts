export * from './batch-paths.ts';
export * from './block-proof.ts';
export * from './builder.ts';
export * from './cutter.ts';
export * from './fabric/block.ts';
export * from './fabric/read-envelope.ts';
export * from './history-tree.ts';
