import { readFile } from 'node:fs/promises';
import { builtinModules, createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { OnResolveArgs, OnResolveResult, Plugin } from 'esbuild';
import { DaybookError } from '../base/index.ts';

const ours = createRequire(import.meta.url);
/** Modules of Node (and winston) that the sandbox itself brings, in a deterministic form. */
const standIns = new Set(['buffer', 'util', 'events', 'assert', 'crypto', 'winston']);
const builtins = new Set(builtinModules);

/** The node_modules directory from which Daybook itself takes `fabric-contract-api`. */
export function ourModulesDirectory(): string {
  return dirname(dirname(ours.resolve('fabric-contract-api/package.json')));
}

/** Keeps out what is not deterministic, and finds what the contract did not install itself. */
export function resolvePlugin(): Plugin {
  return {
    name: 'daybook-resolve',
    setup(build) {
      // Version 0.4.1 lacks a function that fabric-contract-api needs; ours is pinned to 0.4.0.
      build.onResolve({ filter: /^class-transformer$/ }, () => ({
        path: ours.resolve('class-transformer'),
      }));
      build.onResolve({ filter: /^[^./]/ }, async (args) => {
        const name = args.path.replace(/^node:/, '').replace(/\/$/, '');
        if (standIns.has(name)) return { path: name, external: true };
        if (builtins.has(name) || args.path.startsWith('node:')) return refuse(args, name);
        if (name === 'fabric-shim') {
          return error(
            'CONTRACT_BUNDLE_INVALID',
            `${args.importer} requires 'fabric-shim': contracts of Daybook extend Contract of 'fabric-contract-api'`,
          );
        }
        if (args.pluginData === nested) return undefined;
        const found = await build.resolve(args.path, {
          kind: args.kind,
          importer: args.importer,
          resolveDir: args.resolveDir,
          pluginData: nested,
        });
        if (found.errors.length === 0) return found;
        const fallback = await build.resolve(args.path, {
          kind: args.kind,
          resolveDir: dirname(ourModulesDirectory()),
          pluginData: nested,
        });
        return fallback.errors.length === 0 ? fallback : undefined;
      });
    },
  };
}

const nested = Symbol('resolving');

function refuse(args: OnResolveArgs, name: string): OnResolveResult {
  return error(
    'CONTRACT_NONDETERMINISTIC',
    `${args.importer} requires '${name}': contracts have no clock, chance, files, network or processes`,
    name,
  );
}

function error(
  code: 'CONTRACT_NONDETERMINISTIC' | 'CONTRACT_BUNDLE_INVALID',
  message: string,
  module?: string,
): OnResolveResult {
  const detail = new DaybookError(
    code,
    message,
    module === undefined ? {} : { details: { module } },
  );
  return { errors: [{ text: message, detail }] };
}

/** TypeScript with decorators and their metadata, which esbuild itself does not emit. */
export function typescriptPlugin(): Plugin {
  return {
    name: 'daybook-typescript',
    setup(build) {
      build.onLoad({ filter: /\.[cm]?tsx?$/ }, async ({ path }) => {
        // Loaded when first needed: contract processes never do, and it is big.
        const { transform } = await import('@swc/core');
        try {
          const { code } = await transform(await readFile(path, 'utf8'), {
            filename: path,
            configFile: false,
            swcrc: false,
            jsc: {
              parser: { syntax: 'typescript', decorators: true, tsx: path.endsWith('x') },
              transform: { legacyDecorator: true, decoratorMetadata: true },
              target: 'es2022',
              keepClassNames: true,
            },
            module: { type: 'es6' },
          });
          return { contents: code, loader: 'js', resolveDir: join(path, '..') };
        } catch (cause) {
          const text = cause instanceof Error ? cause.message : String(cause);
          return { errors: [{ text: `${path}: ${text.split('\n').slice(0, 4).join(' ')}` }] };
        }
      });
    },
  };
}
