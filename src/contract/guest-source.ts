import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

let built: string | undefined;

/**
 * The guest (`guest/main.ts` with npm `buffer`) as one script whose value is its exports. Built
 * once per process, in some 50 ms.
 */
export function guestSource(): string {
  built ??= build();
  return built;
}

function build(): string {
  // The same file, as TypeScript in a checkout and as JavaScript in the published package.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const result = buildSync({
    entryPoints: [fileURLToPath(new URL(`./guest/main.${extension}`, import.meta.url))],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'guest',
    platform: 'neutral',
    mainFields: ['main'],
    target: 'es2022',
    legalComments: 'none',
    logLevel: 'silent',
  });
  return `(() => { ${result.outputFiles[0]?.text ?? ''}\n return guest; })()`;
}
