export {
  adoptChainInProcess,
  mendAsWrittenInProcess,
  packBlocks,
  serveAdoption,
  unpackBlocks,
} from './adopt-process.ts';
export { type AdoptionOptions, adoptChain, type FetchBlocks } from './adoption.ts';
export { mendAsWritten } from './as-written.ts';
export * from './attestation.ts';
export * from './block-backend.ts';
export { blockFiles, lengthPrefix } from './block-files.ts';
export { type BlockProcess, startBlockProcess } from './block-process.ts';
export * from './block-proof.ts';
export * from './block-service.ts';
export { type BlockStore, openBlockStore } from './block-store.ts';
export * from './builder.ts';
export * from './cutter.ts';
export { unlessDamaged } from './damaged-blocks.ts';
export * from './execution.ts';
export * from './fabric/block.ts';
export * from './generator.ts';
export * from './history-tree.ts';
export * from './majority.ts';
export * from './receipt.ts';
export * from './root-statement.ts';
export { rowsBefore } from './row-before.ts';
export * from './scrub.ts';
export { blockDigest, type SeedOptions, seedChain } from './seed-chain.ts';
export { indexedFields, storedBlocks } from './segment-files.ts';
export { type ServedBlocks, serveBlocks } from './serve-blocks.ts';
export * from './verify.ts';
export * from './verify-envelope.ts';
