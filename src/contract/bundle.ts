import { existsSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { build, type Message } from 'esbuild';
import { checkLimit, DaybookError } from '../base/index.ts';
import { type ContractBundle, encodeBundle, isContractName, readOptions } from '../model/index.ts';
import { ourModulesDirectory, resolvePlugin, typescriptPlugin } from './bundle-plugins.ts';

/**
 * Makes one file of a contract's directory: JavaScript or TypeScript (decorators included), with
 * everything it imports, `fabric-contract-api` too.
 *
 * The entry is `daybook.entry` of its package.json, else `src/index.ts` where a tsconfig.json
 * stands, else `main`, else `index.js` or `index.ts`. Name and version come from package.json
 * unless given.
 *
 * @throws {DaybookError} `CONTRACT_BUNDLE_INVALID` when the directory is not a contract;
 *   `CONTRACT_NONDETERMINISTIC` naming a module of Node that has no place in one;
 *   `LIMIT_EXCEEDED` (`contractBundleBytesMax`).
 */
export async function bundleContract(
  directory: string,
  overrides: { readonly name?: string; readonly version?: string } = {},
): Promise<ContractBundle> {
  const root = resolve(directory);
  const manifest = readManifest(root);
  const name = overrides.name ?? text(manifest.name)?.replace(/^@[^/]*\//, '') ?? '';
  const version = overrides.version ?? text(manifest.version) ?? '';
  if (!isContractName(name)) throw invalid(root, `'${name}' is not a name for a contract`);
  if (version === '') throw invalid(root, 'package.json has no version');
  const settings = (manifest.daybook ?? {}) as Record<string, unknown>;
  const options = readOptions(settings, 'package.json');
  const source = await bundleSource(root, findEntry(root, manifest, settings));
  const bundle = { name, version, source, options };
  checkLimit('contractBundleBytesMax', encodeBundle(bundle).length);
  return bundle;
}

async function bundleSource(root: string, entry: string): Promise<string> {
  let output: string;
  try {
    const result = await build({
      stdin: {
        contents: `module.exports = { user: require(${JSON.stringify(entry)}), api: require('fabric-contract-api') };`,
        resolveDir: root,
        sourcefile: 'entry.js',
      },
      absWorkingDir: root,
      bundle: true,
      write: false,
      format: 'cjs',
      platform: 'node',
      target: 'es2022',
      keepNames: true,
      minifySyntax: false,
      legalComments: 'none',
      logLevel: 'silent',
      plugins: [resolvePlugin(), typescriptPlugin()],
    });
    output = result.outputFiles[0]?.text ?? '';
  } catch (cause) {
    throw fromEsbuild(root, cause);
  }
  // Paths of this machine have no place in the log.
  return output.replaceAll(relative(root, ourModulesDirectory()), 'node_modules');
}

function readManifest(root: string): Record<string, unknown> {
  const path = join(root, 'package.json');
  if (!existsSync(path)) throw invalid(root, 'there is no package.json');
  try {
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw invalid(root, 'package.json is not JSON');
}

function findEntry(
  root: string,
  manifest: Record<string, unknown>,
  settings: Record<string, unknown>,
): string {
  const wanted = text(settings.entry);
  const candidates =
    wanted === undefined
      ? [
          existsSync(join(root, 'tsconfig.json')) ? 'src/index.ts' : undefined,
          text(manifest.main),
          'index.js',
          'index.ts',
          'src/index.ts',
        ]
      : [wanted];
  for (const candidate of candidates) {
    if (candidate !== undefined && existsSync(join(root, candidate))) return join(root, candidate);
  }
  throw invalid(root, `found none of ${candidates.filter((one) => one !== undefined).join(', ')}`);
}

function fromEsbuild(root: string, cause: unknown): DaybookError {
  const errors = (cause as { errors?: Message[] }).errors;
  const first = errors?.[0];
  if (first === undefined) return invalid(root, String(cause));
  if (first.detail instanceof DaybookError) return first.detail;
  const where = first.location === null ? '' : ` (${first.location.file}:${first.location.line})`;
  return invalid(root, `${first.text}${where}`);
}

function invalid(root: string, why: string): DaybookError {
  return new DaybookError('CONTRACT_BUNDLE_INVALID', `${root} is not a contract: ${why}`, {
    details: { directory: root },
  });
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
