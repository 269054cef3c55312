import { type Bytestring, bytestringOfText, DaybookError, limits, textOf } from '../base/index.ts';

/*
 * How deployed contracts lie in the state. A deploy transaction is addressed to the built-in
 * contract `_lifecycle`; replicas and executors learn of contracts from the rows it writes.
 */

/** Namespace of the deployed contracts; also the name of the built-in contract that writes it. */
export const lifecycleNamespace = '_lifecycle';

/** The one function of the built-in contract: `deploy(bundle JSON)`. */
export const deployFunction = 'deploy';

/** What a bundle declares in its package.json under `daybook`. */
export interface ContractOptions {
  /** Reads inside a transaction see its own writes; Fabric's rule is that they do not. */
  readonly readYourWrites: boolean;
  /** Declared JSON indexes: name → fields. */
  readonly indexes: Readonly<Record<string, readonly string[]>>;
}

/** A contract as it lies in the log: one file of JavaScript and its options. */
export interface ContractBundle {
  readonly name: string;
  readonly version: string;
  /** CommonJS, everything bundled in. */
  readonly source: string;
  readonly options: ContractOptions;
}

/** The row that says which version of a contract is deployed. */
export interface ContractDefinition {
  readonly version: string;
  /** 1 for the first deployment, then one more each time. */
  readonly sequence: number;
  /** SHA-256 of the bundle row's bytes, lower-case hexadecimal. */
  readonly bundleHash: string;
  readonly options: ContractOptions;
}

/** Key, within {@link lifecycleNamespace}, of a contract's {@link ContractDefinition}. */
export function definitionKey(contract: string): Bytestring {
  return `contracts/${contract}/definition`;
}

/** Key, within {@link lifecycleNamespace}, of a contract's {@link ContractBundle}. */
export function bundleKey(contract: string): Bytestring {
  return `contracts/${contract}/bundle`;
}

/** Which contract's definition a key of {@link lifecycleNamespace} holds, or `undefined`. */
export function contractOfDefinitionKey(key: Bytestring): string | undefined {
  return /^contracts\/([^/]+)\/definition$/.exec(key)?.[1];
}

/**
 * True for a name a contract may have: letters, digits, `.`, `_`, `-`; it starts with a letter or
 * digit, so that names that start with `_` stay ours.
 */
export function isContractName(name: string): boolean {
  return name.length <= limits.nameBytesMax && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name);
}

/**
 * True when an upgrade may declare these indexes: the ones that the contract has had all along, or
 * some of them. Rows that were written under another declaration have no entries in a new index, so
 * queries over it would miss them.
 */
export function mayDeclareIndexes(
  previous: ContractDefinition | undefined,
  indexes: ContractOptions['indexes'],
): boolean {
  if (previous === undefined) return true;
  return Object.entries(indexes).every(
    ([name, fields]) => JSON.stringify(previous.options.indexes[name]) === JSON.stringify(fields),
  );
}

/** Canonical JSON of a definition. */
export function encodeDefinition(definition: ContractDefinition): Bytestring {
  const { version, sequence, bundleHash, options } = definition;
  return bytestringOfText(
    JSON.stringify({ version, sequence, bundleHash, options: canonicalOptions(options) }),
  );
}

/**
 * Reads {@link encodeDefinition}.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeDefinition(value: Bytestring): ContractDefinition {
  const { version, sequence, bundleHash, options } = parseObject(value, 'contract definition');
  if (
    typeof version !== 'string' ||
    !Number.isSafeInteger(sequence) ||
    (sequence as number) < 1 ||
    typeof bundleHash !== 'string'
  ) {
    throw malformed('contract definition', 'a field is missing');
  }
  return {
    version,
    sequence: sequence as number,
    bundleHash,
    options: readOptions(options, 'contract definition'),
  };
}

/** Canonical JSON of a bundle: what a deploy transaction carries and what the state keeps. */
export function encodeBundle(bundle: ContractBundle): Bytestring {
  const { name, version, source, options } = bundle;
  return bytestringOfText(
    JSON.stringify({ name, version, source, options: canonicalOptions(options) }),
  );
}

/**
 * Reads {@link encodeBundle} and checks its shape and limits; the source is not run.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED` (`contractBundleBytesMax`)
 */
export function decodeBundle(value: Bytestring): ContractBundle {
  if (value.length > limits.contractBundleBytesMax) {
    throw new DaybookError(
      'LIMIT_EXCEEDED',
      `contractBundleBytesMax is ${limits.contractBundleBytesMax}, got ${value.length}`,
      { details: { limit: 'contractBundleBytesMax', actual: value.length } },
    );
  }
  const { name, version, source, options } = parseObject(value, 'contract bundle');
  if (typeof name !== 'string' || !isContractName(name)) {
    throw malformed('contract bundle', 'not a contract name');
  }
  if (
    typeof version !== 'string' ||
    version === '' ||
    Buffer.byteLength(version) > limits.nameBytesMax
  ) {
    throw malformed('contract bundle', 'not a version');
  }
  if (typeof source !== 'string' || source === '') {
    throw malformed('contract bundle', 'no source');
  }
  return { name, version, source, options: readOptions(options, 'contract bundle') };
}

/**
 * Reads the options under `daybook` of a package.json; what is missing gets its default.
 *
 * @throws {DaybookError} `MALFORMED` with `details.what`
 */
export function readOptions(value: unknown, what: string): ContractOptions {
  if (value === undefined) return { readYourWrites: false, indexes: {} };
  if (!isObject(value)) throw malformed(what, 'options are not an object');
  const { readYourWrites = false, indexes = {} } = value;
  if (typeof readYourWrites !== 'boolean') {
    throw malformed(what, 'options.readYourWrites is not true or false');
  }
  if (!isObject(indexes)) throw malformed(what, 'options.indexes is not an object');
  for (const [name, fields] of Object.entries(indexes)) {
    const areNames =
      Array.isArray(fields) &&
      fields.length > 0 &&
      fields.every((field) => typeof field === 'string' && field !== '');
    if (!areNames) throw malformed(what, `options.indexes.${name} is not a list of field names`);
  }
  return canonicalOptions({
    readYourWrites,
    indexes: indexes as Record<string, readonly string[]>,
  });
}

function canonicalOptions(options: ContractOptions): ContractOptions {
  const names = Object.keys(options.indexes).sort();
  return {
    readYourWrites: options.readYourWrites,
    indexes: Object.fromEntries(names.map((name) => [name, options.indexes[name] ?? []])),
  };
}

function parseObject(value: Bytestring, what: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(textOf(value));
  } catch {
    throw malformed(what, 'not JSON');
  }
  if (!isObject(parsed)) throw malformed(what, 'not a JSON object');
  return parsed;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function malformed(what: string, why: string): DaybookError {
  return new DaybookError('MALFORMED', `malformed ${what}: ${why}`, { details: { what } });
}
