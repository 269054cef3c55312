export { abortForMany } from './abort-for-many.ts';
export * from './io.ts';
export { listenFailed } from './listen-failed.ts';
export { type PauseOptions, pause } from './pause.ts';
export { realIo } from './real.ts';
export { type NetworkTls, tlsNetwork } from './real-network.ts';
export { parentConnection } from './real-processes.ts';
export * from './rpc.ts';
export { whileLocked } from './while-locked.ts';
