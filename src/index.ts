/**
 * Daybook: a permissioned ledger built on a shared log. This entry point has what programs need
 * most; the rooms have their own (`daybook/client`, `daybook/contract`, `daybook/node`, …).
 */
export { DaybookError, type ErrorCode, errorCatalog, isDaybookError } from './base/index.ts';
export { type CallOptions, type CallResult, type Client, connect } from './client/index.ts';
export { bundleContract } from './contract/index.ts';
export { type Identity, type Signer, signerFromPem } from './model/index.ts';
export { type Network, type NetworkOptions, startNetwork } from './node/index.ts';
