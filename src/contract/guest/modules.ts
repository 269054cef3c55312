import { bytestringOfValue, textOfBytes } from './buffers.ts';
import { nondeterministic } from './errors.ts';
import type { HostFunctions } from './host-functions.ts';

/* Stand-ins for the few modules of Node that contracts and the contract API itself may require. */

type Module = Readonly<Record<string, unknown>> | ((...args: never[]) => unknown);

/** The `require` of contracts. Everything else was bundled in. */
export function makeRequire(host: HostFunctions): (name: unknown) => Module {
  const modules = Object.create(null) as Record<string, Module>;
  modules.buffer = { Buffer: (globalThis as unknown as { Buffer: unknown }).Buffer };
  modules.util = util;
  modules.events = EventEmitter as unknown as Module;
  modules.assert = assert as unknown as Module;
  modules.crypto = cryptoModule(host);
  modules.winston = winston;
  return (name) => {
    const text = `${name as string}`;
    const plain = text.startsWith('node:') ? text.slice(5) : text;
    const found = modules[plain];
    if (found === undefined) throw nondeterministic(`the module '${plain}'`);
    return found;
  };
}

/** The `process` of contracts: empty. */
export const processStandIn: Readonly<Record<string, unknown>> = {
  env: {},
  argv: [],
  version: '',
  versions: {},
  platform: 'daybook',
  listeners: () => [],
  on: () => processStandIn,
  once: () => processStandIn,
  emitWarning: () => undefined,
  nextTick: (job: (...args: unknown[]) => void, ...args: unknown[]) => {
    void Promise.resolve().then(() => job(...args));
  },
};

const util: Module = {
  inspect: (value: unknown) => formatValue(value),
  format: (...args: unknown[]) => formatText(args),
  inherits: (child: { prototype: object }, parent: { prototype: object }) => {
    Object.setPrototypeOf(child.prototype, parent.prototype);
  },
  deprecate: (value: unknown) => value,
  promisify:
    (operation: (...args: unknown[]) => void) =>
    (...args: unknown[]) =>
      new Promise((resolve, reject) => {
        operation(...args, (error: unknown, value: unknown) =>
          error ? reject(error) : resolve(value),
        );
      }),
  types: {},
};

/** A text for a log line; never throws. */
export function formatText(args: readonly unknown[]): string {
  let text = '';
  for (let index = 0; index < args.length; index++) {
    const value = args[index];
    text += (index === 0 ? '' : ' ') + (typeof value === 'string' ? value : formatValue(value));
  }
  return text;
}

function formatValue(value: unknown): string {
  try {
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value === 'function') return `[Function ${value.name}]`;
    return JSON.stringify(value) ?? String(value);
  } catch {
    return '[unprintable]';
  }
}

type Listener = (...args: unknown[]) => void;

class EventEmitter {
  static readonly EventEmitter = EventEmitter;
  readonly #listeners = new Map<unknown, Listener[]>();

  on(name: unknown, listener: Listener): this {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
    return this;
  }

  addListener(name: unknown, listener: Listener): this {
    return this.on(name, listener);
  }

  once(name: unknown, listener: Listener): this {
    const wrapped = (...args: unknown[]): void => {
      this.off(name, wrapped);
      listener(...args);
    };
    return this.on(name, wrapped);
  }

  off(name: unknown, listener: Listener): this {
    const rest = (this.#listeners.get(name) ?? []).filter((one) => one !== listener);
    this.#listeners.set(name, rest);
    return this;
  }

  removeListener(name: unknown, listener: Listener): this {
    return this.off(name, listener);
  }

  emit(name: unknown, ...args: unknown[]): boolean {
    const listeners = this.#listeners.get(name) ?? [];
    for (const listener of listeners) listener(...args);
    return listeners.length > 0;
  }
}

function assertTrue(holds: unknown, message?: string): void {
  if (!holds) throw new Error(message ?? 'assertion failed');
}

const assert = Object.assign(assertTrue, {
  ok: assertTrue,
  equal: (left: unknown, right: unknown, message?: string) =>
    // biome-ignore lint/suspicious/noDoubleEquals: this is what assert.equal means
    assertTrue(left == right, message),
  strictEqual: (left: unknown, right: unknown, message?: string) =>
    assertTrue(Object.is(left, right), message),
  notStrictEqual: (left: unknown, right: unknown, message?: string) =>
    assertTrue(!Object.is(left, right), message),
});

/** Hashes are deterministic; everything else of `crypto` is chance or keys. */
function cryptoModule(host: HostFunctions): Module {
  class Hash {
    readonly #algorithm: string;
    #data = '';

    constructor(algorithm: unknown) {
      this.#algorithm = `${algorithm as string}`.toLowerCase();
    }

    update(data: unknown): this {
      this.#data += bytestringOfValue(data, 'the hashed data');
      return this;
    }

    digest(encoding?: unknown): unknown {
      let hex: string;
      try {
        hex = host.hash(this.#algorithm, this.#data);
      } catch {
        hex = '';
      }
      if (hex === '') throw nondeterministic(`the hash ${this.#algorithm}`);
      const bytes = (
        globalThis as unknown as { Buffer: { from(hex: string, encoding: string): Uint8Array } }
      ).Buffer.from(hex, 'hex');
      if (encoding === undefined) return bytes;
      if (encoding === 'hex') return hex;
      return (bytes as unknown as { toString(encoding: unknown): string }).toString(encoding);
    }
  }
  const refuse = (name: string) => (): never => {
    throw nondeterministic(`crypto.${name}`);
  };
  return {
    createHash: (algorithm: unknown) => new Hash(algorithm),
    randomBytes: refuse('randomBytes'),
    randomUUID: refuse('randomUUID'),
    randomInt: refuse('randomInt'),
    randomFillSync: refuse('randomFillSync'),
    generateKeyPairSync: refuse('generateKeyPairSync'),
  };
}

const silent = (): void => undefined;

class Logger {
  level = 'info';
  readonly error = silent;
  readonly warn = silent;
  readonly info = silent;
  readonly debug = silent;
}

/** The contract API logs through winston; contracts have `console`. */
const winston: Module = {
  createLogger: Logger,
  transports: { Console: class {} },
  format: new Proxy(
    {},
    {
      get: () => silent,
    },
  ),
};

/** Text encodings of the web platform, UTF-8 only. */
export function installTextCodecs(): void {
  const global = globalThis as unknown as Record<string, unknown>;
  global.TextEncoder = class TextEncoder {
    readonly encoding = 'utf-8';

    encode(text: unknown = ''): Uint8Array {
      const from = (globalThis as unknown as { Buffer: { from(text: string): Uint8Array } }).Buffer;
      const bytes = from.from(`${text as string}`);
      return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
    }
  };
  global.TextDecoder = class TextDecoder {
    readonly encoding = 'utf-8';

    constructor(encoding: unknown = 'utf-8') {
      if (!/^utf-?8$/i.test(`${encoding as string}`)) throw new RangeError('UTF-8 only');
    }

    decode(bytes?: unknown): string {
      if (bytes === undefined) return '';
      if (bytes instanceof ArrayBuffer) return textOfBytes(new Uint8Array(bytes));
      return textOfBytes(bytes as Uint8Array);
    }
  };
  global.queueMicrotask = (job: () => void) => {
    void Promise.resolve().then(job);
  };
}
