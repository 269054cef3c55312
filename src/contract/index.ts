export * from './bundle.ts';
export * from './create-runtime.ts';
export * from './lifecycle.ts';
export * from './runtime.ts';
export * from './scaffold.ts';
