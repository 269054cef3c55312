import { type Bytestring, bytesOf, DaybookError } from '../base/index.ts';
import {
  bundleKey,
  type ContractBundle,
  type ContractDefinition,
  decodeBundle,
  decodeDefinition,
  definitionKey,
  encodeBundle,
  encodeDefinition,
  type KeyWrite,
  mayDeclareIndexes,
  sha256Hex,
} from '../model/index.ts';

/** What a deploy transaction does. */
export interface Deployment {
  readonly bundle: ContractBundle;
  readonly definition: ContractDefinition;
  /** Rows of the namespace `_lifecycle`, keys ascending. */
  readonly writes: readonly KeyWrite[];
}

/** The argument of a deploy transaction: contract `_lifecycle`, function `deploy`. */
export function deployArgument(bundle: ContractBundle): Buffer {
  return bytesOf(encodeBundle(bundle));
}

/**
 * Which contract a deploy argument is for: the caller reads that contract's definition row, which
 * makes concurrent deployments conflict.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`
 */
export function deployedContract(argument: Bytestring): string {
  return decodeBundle(argument).name;
}

/**
 * The built-in contract `_lifecycle`. Deploying the very bundle that is deployed changes nothing but
 * the count.
 *
 * @param argument - what {@link deployArgument} made.
 * @param current - the definition row as read, `undefined` for a new contract.
 * @throws {DaybookError} `MALFORMED` (also for JSON that is not canonical: replay compares bytes),
 *   `LIMIT_EXCEEDED`, or `CONTRACT_BUNDLE_INVALID` when another bundle is deployed under the same
 *   version, or an upgrade declares an index that the contract did not have.
 */
export function deployWrites(argument: Bytestring, current: Bytestring | undefined): Deployment {
  const bundle = decodeBundle(argument);
  const row = encodeBundle(bundle);
  if (row !== argument) {
    throw new DaybookError('MALFORMED', 'malformed contract bundle: not canonical JSON', {
      details: { what: 'contract bundle' },
    });
  }
  const bundleHash = sha256Hex(bytesOf(row));
  const { name, version, options } = bundle;
  const previous = current === undefined ? undefined : decodeDefinition(current);
  if (previous?.version === version && previous.bundleHash !== bundleHash) {
    throw new DaybookError(
      'CONTRACT_BUNDLE_INVALID',
      `${name} ${version} is deployed already, with other content: raise the version`,
      { details: { contract: name, version } },
    );
  }
  if (!mayDeclareIndexes(previous, options.indexes)) {
    throw new DaybookError(
      'CONTRACT_BUNDLE_INVALID',
      `${name} cannot declare another index in an upgrade: rows written before are not in it`,
      { details: { contract: name, version } },
    );
  }
  const sequence = (previous?.sequence ?? 0) + 1;
  const definition = { version, sequence, bundleHash, options };
  return {
    bundle,
    definition,
    writes: [
      { key: bundleKey(name), value: row },
      { key: definitionKey(name), value: encodeDefinition(definition) },
    ],
  };
}
