import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the source tree. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

/** The built `daybook` command. */
export const command = built('src/cli/main.js');

/**
 * Path of a built module: process tests run what users run. `npm test` builds first; alone, run
 * `npm run build` before.
 */
export function built(module: string): string {
  const path = join(root, 'dist', module);
  if (!existsSync(path)) throw new Error(`${module} is not built: npm run build`);
  return path;
}
