import { bytestringOf, DaybookError } from '../base/index.ts';
import {
  type CallOutcome,
  deployedContract,
  deployWrites,
  type StateAccess,
} from '../contract/index.ts';
import {
  bundleKey,
  definitionKey,
  deployFunction,
  encodeDefinition,
  fabricDefinition,
  lifecycleNamespace,
  type Transaction,
} from '../model/index.ts';

/**
 * The built-in contract `_lifecycle`: `deploy(bundle JSON)` installs or upgrades a contract by
 * writing its definition and its bundle, and the definition once more as Fabric has it. It reads the definition first, so of two concurrent
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
  const argument = bytestringOf(bundleJson);
  const key = definitionKey(deployedContract(argument));
  const { bundle, definition, writes } = deployWrites(
    argument,
    await access.get(lifecycleNamespace, key),
  );
  // Deploying what is deployed changes nothing but the count; replay wants both rows all the same.
  const sequence = writes.length > 0 ? definition.sequence : definition.sequence + 1;
  const row = encodeDefinition({ ...definition, sequence });
  access.put(lifecycleNamespace, key, row);
  access.put(lifecycleNamespace, bundleKey(bundle.name), argument);
  for (const { key: fabricKey, value } of fabricDefinition(bundle.name, bundle.version, sequence)) {
    access.put(lifecycleNamespace, fabricKey, value);
  }
  return { ok: true, result: row, event: undefined };
}
