export * from './backend.ts';
export type { ListedNode } from './context.ts';
export { type Gateway, type GatewayOptions, startGateway } from './gateway.ts';
export * from './soap-server.ts';
