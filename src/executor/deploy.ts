import { bytesOf, bytestringOf, DaybookError } from '../base/index.ts';
import type { CallOutcome, StateAccess } from '../contract/index.ts';
import {
  bundleKey,
  type ContractDefinition,
  decodeBundle,
  decodeDefinition,
  definitionKey,
  deployFunction,
  encodeBundle,
  encodeDefinition,
  lifecycleNamespace,
  sha256Hex,
  type Transaction,
} from '../model/index.ts';

/**
 * The built-in contract `_lifecycle`: `deploy(bundle JSON)` installs or upgrades a contract by
 * writing its definition and its bundle. It reads the definition first, so of two concurrent
 * deployments of one contract the second sees the first.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`, `CONTRACT_BUNDLE_INVALID`
 */
export async function deploy(transaction: Transaction, access: StateAccess): Promise<CallOutcome> {
  const [bundleJson] = transaction.args;
  if (transaction.functionName !== deployFunction) {
    const message = `${lifecycleNamespace} has no function ${transaction.functionName}`;
    return { ok: false, code: 'CONTRACT_FUNCTION_UNKNOWN', message };
  }
  if (bundleJson === undefined || transaction.args.length !== 1) {
    throw new DaybookError('CONTRACT_BUNDLE_INVALID', 'deploy takes one argument, the bundle');
  }
  const bundle = decodeBundle(bytestringOf(bundleJson));
  const row = encodeBundle(bundle);
  const before = await access.get(lifecycleNamespace, definitionKey(bundle.name));
  const definition: ContractDefinition = {
    version: bundle.version,
    sequence: before === undefined ? 1 : decodeDefinition(before).sequence + 1,
    bundleHash: sha256Hex(bytesOf(row)),
    options: bundle.options,
  };
  const value = encodeDefinition(definition);
  access.put(lifecycleNamespace, definitionKey(bundle.name), value);
  access.put(lifecycleNamespace, bundleKey(bundle.name), row);
  return { ok: true, result: value, event: undefined };
}
