import { randomBytes } from 'node:crypto';
import { rm, stat, writeFile } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { DaybookError } from '../base/index.ts';

/**
 * Loads one export of a person's own module, TypeScript or JavaScript.
 *
 * @throws {DaybookError} `NOT_FOUND`, `CONFIG_INVALID` when it does not compile, throws, or has no
 *   such export.
 */
export async function loadExport<T>(
  workingDirectory: string,
  file: string,
  name: string,
): Promise<{ readonly value: T; readonly directory: string }> {
  const path = resolve(workingDirectory, file);
  const directory = dirname(path);
  if ((await stat(path).catch(() => undefined)) === undefined) {
    throw new DaybookError('NOT_FOUND', `there is no file ${file}`, { details: { file } });
  }
  // Beside the original, so that it finds the same packages.
  const compiled = join(directory, `.${name}-${randomBytes(6).toString('hex')}.mjs`);
  try {
    const { outputFiles } = await build({
      entryPoints: [path],
      bundle: true,
      packages: 'external',
      platform: 'node',
      format: 'esm',
      target: 'node20',
      write: false,
      logLevel: 'silent',
      ...(extname(path) === '' ? { loader: { '': 'ts' as const } } : {}),
    });
    await writeFile(compiled, outputFiles[0]?.text ?? '');
    const module = (await import(pathToFileURL(compiled).href)) as Record<string, unknown>;
    const value = module[name];
    if (typeof value !== 'object' || value === null) {
      throw new DaybookError('CONFIG_INVALID', `${file} does not export an object \`${name}\``, {
        details: { file },
      });
    }
    return { value: value as T, directory };
  } catch (cause) {
    if (cause instanceof DaybookError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new DaybookError('CONFIG_INVALID', `${file}: ${why}`, { cause, details: { file } });
  } finally {
    await rm(compiled, { force: true });
  }
}
