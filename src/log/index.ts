export { type EmbeddedLogOptions, openEmbeddedLog } from './embedded/embedded-log.ts';
export * from './etcd/index.ts';
export { remoteLog } from './remote/remote-log.ts';
export { serveLog } from './remote/serve-log.ts';
export * from './shared-log.ts';
