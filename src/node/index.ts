export * from './cluster-admin.ts';
export type { ClusterLogOptions, EtcdTlsFiles } from './cluster-log.ts';
export * from './cluster-node.ts';
export * from './copy-log.ts';
export * from './dev-ca.ts';
export * from './executor-node.ts';
export * from './identities.ts';
export type { Member } from './members.ts';
export * from './network.ts';
