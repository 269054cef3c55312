export * from './assert.ts';
export * from './bytes.ts';
export * from './errors.ts';
export * from './key-order.ts';
export { readKey } from './known-strings.ts';
export * from './limits.ts';
export { TransitMap } from './transit-map.ts';
