import { DaybookError } from '../base/index.ts';
import type { ContractOptions } from '../contract/index.ts';
import type { QueryFunctions } from './call-context.ts';

/** JSON queries and declared indexes over the pure functions of `state/`. */
export function createQueryFunctions(
  optionsOf: (contract: string) => ContractOptions | undefined,
): QueryFunctions {
  return {
    run: () => {
      throw new DaybookError('QUERY_INVALID', 'queries are not available yet');
    },
    isReserved: () => false,
    indexWrites: () => [],
    hasIndexes: () => false,
    readYourWrites: (contract) => optionsOf(contract)?.readYourWrites ?? false,
  };
}
