import { installBuffers } from './buffers.ts';
import { setBufferBytesMax } from './current-call.ts';
import { installDeterminism } from './determinism.ts';
import { type ContractApi, Dispatcher, installConsole, messageOf } from './dispatch.ts';
import { SandboxError } from './errors.ts';
import { guarded, type HostFunctions } from './host-functions.ts';
import { installMetering } from './metering.ts';
import { installTextCodecs, makeRequire, processStandIn } from './modules.ts';
import { drop, resume } from './waiting.ts';

/* The guest: our code inside the realm of one contract. It runs before any contract code. */

/** A bundle's source, compiled in the realm. */
export type ContractFunction = (
  module: { exports: unknown },
  exports: unknown,
  require: (name: unknown) => unknown,
  process: unknown,
  global: unknown,
) => void;

/** What the host calls; arguments and answers are primitives, and nothing is thrown. */
export interface Guest {
  /** Runs the bundle; '' or, as `code message`, what is wrong with it. */
  readonly load: (name: string, contract: ContractFunction) => string;
  readonly start: (
    id: number,
    timestampMs: number,
    functionName: string,
    ...params: string[]
  ) => void;
  readonly resume: (ticket: number, ok: boolean, value: string | undefined) => void;
  /** In place of `resume` when the call has ended meanwhile. */
  readonly drop: (ticket: number) => void;
}

/** Prepares the realm. */
export function initialise(outerHost: HostFunctions, bufferBytesMax: number): Guest {
  const host = guarded(outerHost);
  installDeterminism();
  installBuffers(host);
  installMetering();
  installTextCodecs();
  installConsole(host);
  setBufferBytesMax(bufferBytesMax);
  let dispatcher: Dispatcher | undefined;
  return {
    load(name, contract) {
      try {
        const module = { exports: {} as unknown };
        contract(module, module.exports, makeRequire(host), processStandIn, globalThis);
        const { user, api } = module.exports as { user: unknown; api: ContractApi };
        if (api === undefined) throw new Error('it was not made by `bundleContract`');
        dispatcher = new Dispatcher(host, name, user, api);
        return '';
      } catch (error) {
        const code = SandboxError.codeOf(error) ?? 'CONTRACT_BUNDLE_INVALID';
        return `${code} ${messageOf(error)}`;
      }
    },
    start(id, timestampMs, functionName, ...params) {
      dispatcher?.start(id, timestampMs, functionName, params);
    },
    resume(ticket, ok, value) {
      resume(host, ticket, ok, value);
    },
    drop,
  };
}
