import type { ContractOptions } from '../contract/index.ts';
import {
  changesField,
  indexWrites,
  isReservedKey,
  parseUpdate,
  planQuery,
  runQuery,
} from '../state/index.ts';
import type { QueryFunctions } from './call-context.ts';

const noIndexes = {};

/** JSON queries and declared indexes, by the pure functions of `state/`. */
export function createQueryFunctions(
  optionsOf: (contract: string) => ContractOptions | undefined,
): QueryFunctions {
  const indexesOf = (namespace: string): ContractOptions['indexes'] =>
    optionsOf(namespace)?.indexes ?? noIndexes;
  return {
    run: (access, namespace, query, limit, bookmark) =>
      runQuery(access, namespace, planQuery(query, indexesOf(namespace)), limit, bookmark),
    isReserved: isReservedKey,
    indexWrites: (namespace, key, before, after) =>
      indexWrites(indexesOf(namespace), key, before, after),
    changesIndex: (namespace, update) =>
      changesField(parseUpdate(update).paths, Object.values(indexesOf(namespace)).flat()),
    hasIndexes: (namespace) => {
      for (const _ in indexesOf(namespace)) return true;
      return false;
    },
    readYourWrites: (contract) => optionsOf(contract)?.readYourWrites ?? false,
  };
}
