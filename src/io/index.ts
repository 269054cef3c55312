export * from './io.ts';
