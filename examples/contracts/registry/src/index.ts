import { Registry } from './registry.ts';

export const contracts: unknown[] = [Registry];
