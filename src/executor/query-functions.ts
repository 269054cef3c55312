import type { Bytestring } from '../base/index.ts';
import type { ContractOptions, MaybePromise, QueryPage, StateAccess } from '../contract/index.ts';
import type { KeyWrite } from '../model/index.ts';
import {
  changesField,
  indexWrites,
  isReservedKey,
  parseUpdate,
  planQuery,
  runQuery,
} from '../state/index.ts';

/** JSON queries, as far as the engine knows how to answer them. */
export interface QueryFunctions {
  /** Reads what a query needs through `access` and answers it. */
  run(
    access: Pick<StateAccess, 'get' | 'range'>,
    namespace: string,
    query: string,
    limit: number,
    bookmark: Bytestring,
  ): MaybePromise<QueryPage>;
  /** True for keys that only index entries may have. */
  isReserved(key: Bytestring): boolean;
  /** The index entries that a change of a row's value brings along. */
  indexWrites(
    namespace: string,
    key: Bytestring,
    before: Bytestring | undefined,
    after: Bytestring | undefined,
  ): readonly KeyWrite[];
  /** Whether a bulk update changes a field of a declared index. */
  changesIndex(namespace: string, update: string): boolean;
  /** Whether the contract of a namespace declares indexes. */
  hasIndexes(namespace: string): boolean;
  readYourWrites(namespace: string): boolean;
}

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
