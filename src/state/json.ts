/** A JSON object: what queries look at and updates change. */
export type Json = Record<string, unknown>;

/** True for a JSON object; not for a list or `null`. */
export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Sets a property of that very name, `__proto__` too. */
export function define(target: Json, name: string, value: unknown): void {
  Object.defineProperty(target, name, {
    value,
    enumerable: true,
    configurable: true,
    writable: true,
  });
}
