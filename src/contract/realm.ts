import { constants, createContext, Script } from 'node:vm';
import { type Message, transformSync } from 'esbuild';
import { DaybookError, limits } from '../base/index.ts';
import type { HostFunctions } from './guest/host-functions.ts';
import type { ContractFunction, Guest } from './guest/main.ts';
import { guestSource } from './guest-source.ts';
import type { ContractBundle } from './runtime.ts';

let guestScript: Script | undefined;

/**
 * Makes a realm of its own for a contract and loads it there: other intrinsics than ours, no Node,
 * no code from strings. Only the guest, which runs first, holds functions of ours.
 *
 * @throws {DaybookError} `CONTRACT_BUNDLE_INVALID`, or the sandbox's own code when loading did
 *   something forbidden.
 */
export function openRealm(bundle: ContractBundle, host: HostFunctions): Guest {
  // Not contextified: a sandbox object would be an outer object, and slow down every global.
  const realm = createContext(constants.DONT_CONTEXTIFY as unknown as undefined, {
    codeGeneration: { strings: false, wasm: false },
  });
  guestScript ??= new Script(guestSource(), { filename: 'daybook:guest' });
  const { initialise } = guestScript.runInContext(realm) as {
    initialise: (host: HostFunctions, bufferBytesMax: number) => Guest;
  };
  const guest = initialise(host, limits.contractBufferBytesMax);
  const { load, start, resume, drop } = guest;
  const problem = load(bundle.name, compile(bundle, realm));
  if (problem !== '') {
    const space = problem.indexOf(' ');
    const code = problem.slice(0, space);
    throw new DaybookError(
      code === 'CONTRACT_NONDETERMINISTIC' || code === 'CONTRACT_MEMORY'
        ? code
        : 'CONTRACT_BUNDLE_INVALID',
      `contract ${bundle.name}: ${problem.slice(space + 1)}`,
      { details: { contract: bundle.name } },
    );
  }
  return { load, start, resume, drop };
}

/** Compiles a bundle's source to a function of the realm; runs nothing of it. */
function compile(
  bundle: ContractBundle,
  realm: ReturnType<typeof createContext>,
): ContractFunction {
  const invalid = (cause: unknown): DaybookError =>
    new DaybookError(
      'CONTRACT_BUNDLE_INVALID',
      `contract ${bundle.name} does not compile: ${syntaxMessage(cause)}`,
      { details: { contract: bundle.name } },
    );
  let lowered: string;
  try {
    // `import()` would answer with a promise and errors of the outer realm. There is no switch for
    // it in V8, so it is compiled away; later code cannot bring it back, as none comes from strings.
    lowered = transformSync(bundle.source, {
      format: 'cjs',
      target: 'es2023',
      supported: { 'dynamic-import': false },
      legalComments: 'none',
      logLevel: 'silent',
    }).code;
  } catch (cause) {
    throw invalid(cause);
  }
  try {
    return new Script(`(function (module, exports, require, process, global) {${lowered}\n})`, {
      filename: `contract:${bundle.name}`,
    }).runInContext(realm) as ContractFunction;
  } catch (cause) {
    throw invalid(cause);
  }
}

function syntaxMessage(cause: unknown): string {
  const errors = (cause as { errors?: Message[] }).errors;
  const first = errors?.[0];
  if (first !== undefined) {
    const { text, location } = first;
    return location === null ? text : `${text} (line ${location.line}, column ${location.column})`;
  }
  return (cause as { message?: string }).message ?? 'syntax error';
}
