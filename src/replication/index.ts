export * from './change.ts';
export * from './encryption.ts';
export * from './feed.ts';
export * from './journal.ts';
export * from './page.ts';
export * from './service.ts';
export type { Selection, Subscription } from './subscription.ts';
