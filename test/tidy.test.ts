import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/*
 * The rules of the house that no linter knows: rooms import only rooms before them, through their
 * index; only `io/` touches the outside world (invariant I8); every room says what it is.
 */

const root = fileURLToPath(new URL('..', import.meta.url));

/** In import order. */
const rooms = [
  'base',
  'io',
  'model',
  'log',
  'state',
  'replica',
  'sequencer',
  'contract',
  'executor',
  'blocks',
  'replication',
  'gateway',
  'client',
  'node',
  'cli',
];

const ioModules =
  /^(node:)?(fs|fs\/promises|net|http|https|http2|tls|dgram|dns|os|child_process|worker_threads|cluster|timers|timers\/promises|perf_hooks|inspector|readline|readline\/promises)$/;
const ioGlobals =
  /(?<![.\w'"`])(setTimeout|setInterval|setImmediate|fetch|performance)\s*[.(]|\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\brandomBytes\(|\brandomUUID\(|\bgetRandomValues\(|\bprocess\.hrtime\b/;

/** Where the outside world may be touched beside `io/`, and why. */
const ioExceptions: readonly { readonly path: RegExp; readonly why: string }[] = [
  { path: /^src\/contract\/(bundle|bundle-plugins)\.ts$/, why: 'build tools read files' },
  { path: /^src\/contract\/guest\//, why: 'replaces those globals inside the sandbox' },
  { path: /^src\/cli\//, why: 'the command of a person: files, terminal, exit codes' },
  { path: /(^|\/)(main|[a-z-]+-main)\.ts$/, why: 'a process’s main module' },
];

/** Libraries that do I/O of their own stay in their rooms. */
const libraryRooms: Readonly<Record<string, string | readonly string[]>> = {
  lmdb: 'state',
  fastify: 'gateway',
  undici: ['client', 'replication'],
  pg: 'replication',
  'better-sqlite3': 'replication',
  etcd3: 'log',
  esbuild: ['contract', 'cli'],
  '@swc/core': 'contract',
};

interface Source {
  /** Relative to the repository, with slashes. */
  readonly path: string;
  readonly text: string;
  /** Without comments. */
  readonly code: string;
}

function sourcesIn(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((item) => item.isFile() && item.name.endsWith('.ts'))
    .map((item) => join(item.parentPath, item.name))
    .map((path) => ({ path: relative(root, path).split(sep).join('/'), full: path }))
    .filter(({ path }) => !path.startsWith('examples/contracts/'))
    .map(({ path, full }) => {
      const text = readFileSync(full, 'utf8');
      return { path, text, code: withoutComments(text) };
    });
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"`])\/\/.*$/gm, '$1');
}

const everything = ['src', 'test', 'bench', 'simulator', 'examples'].flatMap(sourcesIn);
const house = everything.filter(({ path }) => path.startsWith('src/'));

function isTest(path: string): boolean {
  return path.endsWith('.test.ts') || path.includes('/testing/');
}

function roomOf(path: string): string | undefined {
  return /^src\/([^/]+)\//.exec(path)?.[1];
}

function importsOf(code: string): { readonly target: string; readonly typeOnly: boolean }[] {
  const found = code.matchAll(
    /(?:^|[;\n])\s*(?:import|export)\s+(type\s)?[^;'"]*?from\s*['"]([^'"]+)['"]/g,
  );
  const dynamic = code.matchAll(
    /\bimport\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)import\s+['"]([^'"]+)['"]/g,
  );
  return [
    ...[...found].map((match) => ({
      target: match[2] as string,
      typeOnly: match[1] !== undefined,
    })),
    ...[...dynamic].map((match) => ({ target: (match[1] ?? match[2]) as string, typeOnly: false })),
  ];
}

describe('tidy', () => {
  it('sees the sources', () => {
    expect(house.length).toBeGreaterThan(30);
    expect(importsOf("import { a } from '../b/index.ts';\nexport * from './c.ts';")).toHaveLength(
      2,
    );
    expect(importsOf("import type { a } from 'node:fs';")).toEqual([
      { target: 'node:fs', typeOnly: true },
    ]);
    expect(withoutComments('a // b\n/* c */d "http://e"')).toBe('a \nd "http://e"');
  });

  it('imports only earlier rooms, through their index', () => {
    const wrong = house.flatMap(({ path, code }) => {
      const room = roomOf(path);
      if (room === undefined) return [];
      return importsOf(code).flatMap(({ target }) => {
        if (!target.startsWith('.')) return [];
        const resolved = join(dirname(path), target).split(sep).join('/');
        const other = roomOf(resolved);
        if (other === room) return [];
        if (other === undefined) return isTest(path) ? [] : [`${path}: leaves src/ with ${target}`];
        if (rooms.indexOf(other) > rooms.indexOf(room) && !isTest(path)) {
          return [`${path}: ${room} comes before ${other}`];
        }
        const door =
          resolved === `src/${other}/index.ts` || (isTest(path) && resolved.includes('/testing/'));
        return door ? [] : [`${path}: imports ${target} past the index of ${other}`];
      });
    });
    expect(wrong).toEqual([]);
  });

  it('touches clock, timers, randomness, disk, network and processes only in io', () => {
    const wrong = house
      .filter(({ path }) => roomOf(path) !== 'io' && !isTest(path))
      .filter(({ path }) => !ioExceptions.some((exception) => exception.path.test(path)))
      .flatMap(({ path, code }) => [
        ...importsOf(code)
          .filter(({ target, typeOnly }) => ioModules.test(target) && !typeOnly)
          .map(({ target }) => `${path}: imports ${target}`),
        ...code
          .split('\n')
          .filter((line) => ioGlobals.test(line))
          .map((line) => `${path}: ${line.trim()}`),
      ]);
    expect(wrong).toEqual([]);
  });

  it('keeps each library that does I/O in its room', () => {
    const wrong = house.flatMap(({ path, code }) =>
      importsOf(code)
        .filter(({ target }) => {
          const allowed = libraryRooms[target];
          return allowed !== undefined && ![allowed].flat().includes(roomOf(path) ?? '');
        })
        .map(({ target }) => `${path}: imports ${target}`)
        .filter(() => !isTest(path)),
    );
    expect(wrong).toEqual([]);
  });

  it('has rooms with a README of one screen and an index that only re-exports', () => {
    const present = readdirSync(join(root, 'src'), { withFileTypes: true })
      .filter((item) => item.isDirectory())
      .map(({ name }) => name)
      .filter((room) => house.some(({ path }) => path.startsWith(`src/${room}/`)));
    expect(present.filter((room) => !rooms.includes(room))).toEqual([]);
    const wrong = present.flatMap((room) => {
      const names = readdirSync(join(root, 'src', room));
      const problems: string[] = [];
      if (!names.includes('README.md')) problems.push(`${room}: no README.md`);
      else {
        const text = readFileSync(join(root, 'src', room, 'README.md'), 'utf8');
        for (const part of [
          'Owns',
          'Does not own',
          'Keeps',
          'Invariants',
          'Survives',
          'Read first',
        ]) {
          if (!text.includes(part)) problems.push(`${room}/README.md: no part “${part}”`);
        }
        if (text.split('\n').length > 80) problems.push(`${room}/README.md: more than a screen`);
      }
      const index = house.find(({ path }) => path === `src/${room}/index.ts`);
      if (index === undefined) problems.push(`${room}: no index.ts`);
      else if (
        /^\s*(const|let|function|class|export (const|function|class|interface))\b/m.test(index.code)
      ) {
        problems.push(`${room}/index.ts: more than re-exports`);
      }
      return problems;
    });
    expect(wrong).toEqual([]);
  });

  it('has no enums, namespaces or default exports', () => {
    const wrong = everything
      .filter(({ path }) => !path.endsWith('.config.ts') && !path.endsWith('tidy.test.ts'))
      .flatMap(({ path, code }) =>
        code
          .split('\n')
          .filter((line) =>
            /^\s*(export )?(const )?enum \w|^\s*(export )?namespace \w|^\s*export default\b/.test(
              line,
            ),
          )
          .map((line) => `${path}: ${line.trim()}`),
      );
    expect(wrong).toEqual([]);
  });

  it('names files in kebab-case', () => {
    const wrong = everything
      .map(({ path }) => path)
      .filter(
        (path) =>
          !/^([a-z0-9]+(-[a-z0-9]+)*\/)*[a-z0-9]+(-[a-z0-9]+)*(\.(test|bench|d))?\.ts$/.test(path),
      );
    expect(wrong).toEqual([]);
  });
});
