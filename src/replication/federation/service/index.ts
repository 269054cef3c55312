export { type Account, newAccount } from './accounts.ts';
export type { NodeCredentials, Peer } from './peer-link.ts';
export { type ContractCalls, RegistryLedger } from './registry-ledger.ts';
export * from './registry-service.ts';
export { Authorities, fingerprintOf, signRecord } from './signing.ts';
export type { PeerState } from './sync.ts';
