export * from './core/index.ts';
export * from './service/index.ts';
export * from './uddi/index.ts';
