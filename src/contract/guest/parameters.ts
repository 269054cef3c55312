import { bufferOfBytestring, bufferOfText } from './buffers.ts';

/* Parameters and results by the types that decorators declared, as Fabric's contract API does it. */

/** A JSON schema as `fabric-contract-api` makes it. */
export interface Schema {
  readonly type?: string;
  readonly $ref?: string;
  readonly $id?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly allOf?: readonly Schema[];
}

/** A transaction function as the metadata describe it. */
export interface TransactionMetadata {
  readonly name: string;
  readonly parameters?: readonly { readonly name: string; readonly schema: Schema }[];
  readonly returns?: Schema;
  readonly tag?: readonly string[];
}

/** The contract API's own serialiser. */
export interface Serializer {
  toBuffer(result: unknown, schema: Schema, prefix: string): Uint8Array | undefined;
  fromBuffer(
    data: Uint8Array,
    schema: { properties: { prop: Schema }; components: { schemas: unknown } },
    prefix: string,
  ): { value: unknown };
}

/** The arguments as the function takes them. @throws Error with Fabric's texts */
export function convertParameters(
  transaction: TransactionMetadata,
  params: readonly string[],
  serializer: Serializer,
  schemas: Record<string, Schema>,
  bytesOf: (index: number) => string,
): unknown[] {
  const expected = transaction.parameters;
  if (expected === undefined) return [...params];
  if (expected.length !== params.length) {
    throw new Error(
      `Expected ${expected.length} parameters, but ${params.length} have been supplied`,
    );
  }
  const converted: unknown[] = [];
  for (let index = 0; index < params.length; index++) {
    const schema = (expected[index] as { schema: Schema }).schema;
    const text = params[index] as string;
    converted[index] =
      schema.type === 'string'
        ? text
        : convert(bufferOfBytestring(bytesOf(index)), schema, serializer, schemas);
  }
  return converted;
}

function convert(
  bytes: Uint8Array,
  schema: Schema,
  serializer: Serializer,
  schemas: Record<string, Schema>,
): unknown {
  const { value } = serializer.fromBuffer(
    bytes,
    { properties: { prop: schema }, components: { schemas } },
    '',
  );
  const problem = mismatch(value, schema, schemas, 0);
  if (problem !== undefined) {
    throw new Error(`Unable to validate parameter due to ${JSON.stringify([problem])}`);
  }
  return value;
}

const depthMax = 64;

/** Why a value does not fit a schema. */
function mismatch(
  value: unknown,
  schema: Schema,
  schemas: Record<string, Schema>,
  depth: number,
): string | undefined {
  if (depth > depthMax) return 'must not be nested that deep';
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split('/').pop() ?? '';
    const target = schemas[name];
    if (target === undefined) return `must have a known type, not ${name}`;
    return mismatch(value, target, schemas, depth + 1);
  }
  for (const part of schema.allOf ?? []) {
    const problem = mismatch(value, part, schemas, depth + 1);
    if (problem !== undefined) return problem;
  }
  if (schema.type === undefined) return undefined;
  if (!hasType(value, schema.type)) return `must be ${schema.type}`;
  if (schema.type === 'array' && schema.items !== undefined) {
    for (const item of value as unknown[]) {
      const problem = mismatch(item, schema.items, schemas, depth + 1);
      if (problem !== undefined) return problem;
    }
  }
  if (schema.type === 'object') {
    for (const [name, item] of Object.entries(value as Record<string, unknown>)) {
      const inner = schema.properties?.[name] ?? schema.additionalProperties;
      if (inner === undefined || item === undefined) continue;
      const problem = mismatch(item, inner, schemas, depth + 1);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

function hasType(value: unknown, type: string): boolean {
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') {
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  }
  return typeof value === type;
}

/** What a function returned, as the bytes (or the text) that the client gets. */
export function convertResult(
  result: unknown,
  returns: Schema | undefined,
  serializer: Serializer,
): string | Uint8Array {
  if (result === undefined || result === null) return '';
  const type = returns?.type;
  const isTyped = type === 'string' || type === 'number';
  if (isTyped && typeof result !== type) {
    throw new Error(`Returned value is ${typeof result} does not match schema type of ${type}`);
  }
  if (typeof result === 'string') return result;
  if (typeof result === 'number' || typeof result === 'boolean') return `${result}`;
  return serializer.toBuffer(result, returns ?? {}, '') ?? bufferOfText('');
}
