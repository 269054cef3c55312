export { type EmbeddedLogOptions, openEmbeddedLog } from './embedded/embedded-log.ts';
export * from './shared-log.ts';
export * from './etcd/index.ts';
