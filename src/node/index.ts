export * from './dev-ca.ts';
export * from './executor-node.ts';
export * from './identities.ts';
export * from './network.ts';
