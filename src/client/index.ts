export { DaybookError, type ErrorCode, isDaybookError } from '../base/index.ts';
export type { CallOptions } from './call.ts';
export { Client, connect, type StatusOfTransaction } from './client.ts';
export { discoverGateways } from './discover.ts';
export type { ContractEvent, EventsOptions } from './events.ts';
export type { ConnectOptions, IdentityFiles } from './options.ts';
export { CallResult } from './result.ts';
export { type Attempt, AttemptLost, type Door, type Transport } from './transport.ts';
