import { bytestringOfValue, isAscii } from './buffers.ts';
import { ClientIdentity } from './client-identity.ts';
import { activate, activeCallId, type GuestCall, newCall } from './current-call.ts';
import { SandboxError } from './errors.ts';
import type { HostFunctions } from './host-functions.ts';
import { formatText } from './modules.ts';
import {
  convertParameters,
  convertResult,
  type Schema,
  type Serializer,
  type TransactionMetadata,
} from './parameters.ts';
import { ChaincodeStub } from './stub.ts';

type Method = (...args: unknown[]) => unknown;

/** What every contract instance has from its base class. */
interface Contract {
  readonly [name: string]: unknown;
  getName(): string;
  createContext(): Context;
  beforeTransaction(context: Context): Promise<void>;
  aroundTransaction(context: Context, name: string, parameters: unknown[]): Promise<unknown>;
  afterTransaction(context: Context, result: unknown): Promise<void>;
  unknownTransaction(context: Context): Promise<void>;
}

interface Context {
  setChaincodeStub(stub: unknown): void;
  setClientIdentity(identity: unknown): void;
  logging?: unknown;
}

/** `fabric-contract-api`, as the bundle carries it. */
export interface ContractApi {
  readonly Contract: { readonly prototype: Contract };
  readonly JSONSerializer: new () => Serializer;
}

interface Installed {
  readonly instance: Contract;
  /** By name; no prototype. */
  readonly transactions: Readonly<Record<string, TransactionMetadata>>;
  readonly list: readonly TransactionMetadata[];
  /** Hooks that the class overrides; calling the empty ones of the base class would cost a turn. */
  readonly hasBefore: boolean;
  readonly hasAround: boolean;
  readonly hasAfter: boolean;
  readonly hasUnknown: boolean;
}

const systemName = 'org.hyperledger.fabric';

/** The contract classes of one bundle, ready to be called. */
export class Dispatcher {
  readonly #host: HostFunctions;
  readonly #bundle: string;
  readonly #contracts = Object.create(null) as Record<string, Installed>;
  readonly #schemas: Record<string, Schema>;
  readonly #serializer: Serializer;
  readonly #logging: unknown;
  #defaultName = '';

  /** @throws Error saying what is wrong with the bundle */
  constructor(host: HostFunctions, bundle: string, exported: unknown, api: ContractApi) {
    this.#host = host;
    this.#bundle = bundle;
    this.#serializer = new api.JSONSerializer();
    this.#schemas =
      (metadata('fabric:objects', globalThis) as Record<string, Schema> | undefined) ?? {};
    this.#logging = { setLevel: () => undefined, getLogger: () => console };
    const wanted = metadata('fabric:default', globalThis);
    for (const contractClass of contractClasses(exported)) {
      const instance = new contractClass() as Contract;
      if (!(instance as unknown as { __isContract?: boolean }).__isContract) {
        throw new Error('an exported class does not extend Contract');
      }
      const name = instance.getName();
      if (this.#contracts[name] !== undefined) throw new Error(`two contracts are named ${name}`);
      this.#contracts[name] = describe(instance, api);
      if (this.#defaultName === '') this.#defaultName = name;
    }
    if (this.#defaultName === '') throw new Error('it exports no contract class');
    if (typeof wanted === 'string' && this.#contracts[wanted] !== undefined) {
      this.#defaultName = wanted;
    }
  }

  /** Starts a call; its end is reported to the host. */
  start(id: number, timestampMs: number, functionName: string, params: readonly string[]): void {
    const call = newCall(id, timestampMs);
    activate(call);
    void this.#run(call, functionName, params);
  }

  async #run(call: GuestCall, functionName: string, params: readonly string[]): Promise<void> {
    try {
      const result = await this.#invoke(call, functionName, params);
      if (call.fatal !== undefined) throw call.fatal;
      if (!call.open) return;
      call.open = false;
      if (typeof result === 'string') {
        this.#host.finished(call.id, result, !isAscii(result));
      } else {
        this.#host.finished(call.id, bytestringOfValue(result, 'the result'), false);
      }
    } catch (error) {
      call.open = false;
      const reason = call.fatal ?? error;
      const code = SandboxError.codeOf(reason) ?? 'CONTRACT_REJECTED';
      this.#host.refused(call.id, code, messageOf(reason));
    }
  }

  async #invoke(
    call: GuestCall,
    functionName: string,
    params: readonly string[],
  ): Promise<string | Uint8Array> {
    const colon = functionName.indexOf(':');
    const contractName = colon < 0 ? this.#defaultName : functionName.slice(0, colon);
    const name = functionName.slice(colon + 1);
    if (contractName === systemName && name === 'GetMetadata') return this.#metadataJson();
    const installed = this.#contracts[contractName === '' ? this.#defaultName : contractName];
    if (installed === undefined) {
      throw new SandboxError(
        'CONTRACT_FUNCTION_UNKNOWN',
        `Contract name is not known: ${contractName}`,
      );
    }
    const { instance } = installed;
    const context = instance.createContext();
    context.setChaincodeStub(
      new ChaincodeStub(this.#host, call, this.#bundle, functionName, params),
    );
    context.setClientIdentity(new ClientIdentity(this.#host, call));
    context.logging = this.#logging;

    const transaction = installed.transactions[name];
    if (transaction === undefined) {
      if (!installed.hasUnknown) {
        throw new SandboxError(
          'CONTRACT_FUNCTION_UNKNOWN',
          `You've asked to invoke a function that does not exist: ${functionName}`,
        );
      }
      await instance.unknownTransaction(context);
      return '';
    }
    const parameters = convertParameters(
      transaction,
      params,
      this.#serializer,
      this.#schemas,
      (index) => this.#host.argument(call.id, index),
    );
    if (installed.hasBefore) await instance.beforeTransaction(context);
    const result = installed.hasAround
      ? await instance.aroundTransaction(context, name, parameters)
      : await (instance[name] as Method)(context, ...parameters);
    if (installed.hasAfter) await instance.afterTransaction(context, result);
    return convertResult(result, transaction.returns, this.#serializer);
  }

  #metadataJson(): string {
    const contracts: Record<string, unknown> = {};
    const infos =
      (metadata('fabric:info', globalThis) as Record<string, unknown> | undefined) ?? {};
    for (const name of Object.keys(this.#contracts)) {
      const { instance, list } = this.#contracts[name] as Installed;
      const own: Record<string, unknown> = {};
      for (const key of Object.keys(instance)) {
        if (!key.startsWith('_')) own[key] = instance[key];
      }
      contracts[name] = {
        name,
        contractInstance: { ...own, ...(name === this.#defaultName ? { default: true } : {}) },
        transactions: list,
        info: infos[instance.constructor.name] ?? { title: '', version: '' },
      };
    }
    contracts[systemName] = {
      name: systemName,
      contractInstance: { name: systemName },
      transactions: [{ name: 'GetMetadata' }],
      info: { title: '', version: '' },
    };
    return JSON.stringify({
      $schema: 'https://hyperledger.github.io/fabric-chaincode-node/main/api/contract-schema.json',
      contracts,
      info: { version: '', title: '' },
      components: { schemas: this.#schemas },
    });
  }
}

/** Reports what a contract prints. */
export function installConsole(host: HostFunctions): void {
  const printer =
    (level: string) =>
    (...args: unknown[]): void => {
      host.log(activeCallId(), level, formatText(args));
    };
  const silent = (): void => undefined;
  const console: Record<string, unknown> = {};
  for (const level of ['debug', 'log', 'info', 'warn', 'error', 'trace']) {
    console[level] = printer(level);
  }
  for (const name of ['time', 'timeEnd', 'timeLog', 'group', 'groupEnd', 'count', 'assert']) {
    console[name] = silent;
  }
  console.dir = console.log;
  console.table = console.log;
  Object.defineProperty(globalThis, 'console', {
    value: console,
    writable: true,
    configurable: true,
  });
}

/** The text of anything thrown. Runs contract code (getters, `toString`), so it may not be trusted. */
export function messageOf(thrown: unknown): string {
  try {
    if (typeof thrown === 'object' && thrown !== null && 'message' in thrown) {
      const { message } = thrown;
      if (typeof message === 'string' && message !== '') return message;
    }
    return `${thrown as string}`;
  } catch {
    return 'the contract threw something that has no text';
  }
}

function contractClasses(exported: unknown): (new () => unknown)[] {
  if (isContractClass(exported)) return [exported];
  const module = (exported ?? {}) as Record<string, unknown>;
  const listed = module.contracts ?? (module.default as Record<string, unknown>)?.contracts;
  if (Array.isArray(listed)) {
    for (const one of listed) {
      if (typeof one !== 'function') throw new Error('`contracts` must list contract classes');
    }
    return listed as (new () => unknown)[];
  }
  return Object.values(module).filter(isContractClass);
}

function isContractClass(value: unknown): value is new () => unknown {
  if (typeof value !== 'function') return false;
  const prototype = value.prototype as Record<string, unknown> | undefined;
  return (
    prototype !== undefined &&
    typeof prototype.unknownTransaction === 'function' &&
    typeof prototype.createContext === 'function'
  );
}

function describe(instance: Contract, api: ContractApi): Installed {
  const base = api.Contract.prototype;
  const list = transactionsOf(instance, base);
  const transactions = Object.create(null) as Record<string, TransactionMetadata>;
  for (const transaction of list) transactions[transaction.name] = transaction;
  return {
    instance,
    transactions,
    list,
    hasBefore: instance.beforeTransaction !== base.beforeTransaction,
    hasAround: instance.aroundTransaction !== base.aroundTransaction,
    hasAfter: instance.afterTransaction !== base.afterTransaction,
    hasUnknown: instance.unknownTransaction !== base.unknownTransaction,
  };
}

/** Decorated functions, or else all functions of the class itself but hooks and `_private` ones. */
function transactionsOf(instance: Contract, base: Contract): TransactionMetadata[] {
  const decorated = metadata('fabric:transactions', instance) as TransactionMetadata[] | undefined;
  if (decorated !== undefined && decorated.length > 0) return decorated;
  const found: TransactionMetadata[] = [];
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(instance))) {
    const value = instance[name];
    if (typeof value !== 'function' || name.startsWith('_')) continue;
    if (name === 'constructor' || Object.hasOwn(base, name)) continue;
    const parameters = [];
    for (let index = 1; index < value.length; index++) {
      parameters.push({
        name: `arg${index - 1}`,
        description: `Argument ${index - 1}`,
        schema: { type: 'string' },
      });
    }
    found.push({
      name,
      tag: ['submitTx'],
      ...(parameters.length > 0 ? { parameters } : {}),
    });
  }
  return found;
}

function metadata(key: string, target: object): unknown {
  const reflect = Reflect as unknown as { getMetadata?: (key: string, target: object) => unknown };
  return reflect.getMetadata?.(key, target);
}
