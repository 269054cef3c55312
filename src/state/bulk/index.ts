export * from './bulk-work.ts';
export * from './pending-updates.ts';
export * from './update-operators.ts';
export * from './updated-rows.ts';
