import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { limits } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { bundleContract } from './bundle.ts';
import { scaffoldContract } from './scaffold.ts';
import { bundleOf, Harness } from './testing/harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const plain = `
  const { Contract } = require('fabric-contract-api');
  module.exports.contracts = [class Sample extends Contract { async hello() { return 'hello'; } }];`;

describe('bundleContract', () => {
  it('takes name, version and options from package.json', async () => {
    const daybook = { readYourWrites: true, indexes: { byOwner: ['owner', 'size'] } };
    const bundle = await bundleOf(
      { 'index.js': plain },
      { name: '@org/till', version: '2.1', daybook },
    );
    expect(bundle).toMatchObject({
      name: 'till',
      version: '2.1',
      options: { readYourWrites: true, indexes: { byOwner: ['owner', 'size'] } },
    });
  });

  it('finds the entry and other files, as CommonJS or modules', async () => {
    const layouts: Record<string, string>[] = [
      { 'main.js': plain, 'package.json': '{"name":"sample","version":"1","main":"main.js"}' },
      {
        'other.js': plain,
        'package.json':
          '{"name":"sample","version":"1","main":"x.js","daybook":{"entry":"other.js"}}',
      },
      {
        'index.js': `import { Contract } from 'fabric-contract-api'; import { text } from './lib/text.mjs';
          export const contracts = [class Sample extends Contract { async hello() { return text; } }];`,
        'lib/text.mjs': `export const text = 'hello';`,
        'package.json': '{"name":"sample","version":"1","type":"module"}',
      },
      {
        'index.js': `const { Contract } = require('fabric-contract-api');
          module.exports = class Sample extends Contract { async hello() { return 'hello'; } };`,
      },
      {
        'src/index.ts': `import { Contract } from 'fabric-contract-api';
          export class Sample extends Contract { async hello(): Promise<string> { return 'hello'; } }`,
      },
    ];
    for (const files of layouts) {
      expect(await new Harness([await bundleOf(files)]).result('hello')).toBe('hello');
    }
  });

  it('is the same for the same files, wherever they lie', async () => {
    const first = await bundleOf({ 'index.js': plain });
    const second = await bundleOf({ 'index.js': plain });
    expect(second).toEqual(first);
    expect(first.source).not.toContain(root);
    expect(first.source).not.toContain(tmpdir());
  });

  it('refuses what is not a contract, saying why', async () => {
    await expect(bundleOf({})).rejects.toThrow(/found none of index\.js/);
    await expect(bundleOf({ 'index.js': plain }, { name: '_lifecycle' })).rejects.toMatchObject({
      code: 'CONTRACT_BUNDLE_INVALID',
    });
    await expect(bundleOf({ 'index.js': plain }, { version: '' })).rejects.toThrow(/no version/);
    await expect(bundleOf({ 'index.js': 'const = 5' })).rejects.toMatchObject({
      code: 'CONTRACT_BUNDLE_INVALID',
      message: expect.stringContaining('index.js:1') as string,
    });
    await expect(bundleOf({ 'index.js': "require('not-installed')" })).rejects.toThrow(
      /not-installed/,
    );
    await expect(bundleOf({ 'index.js': "require('fabric-shim')" })).rejects.toThrow(
      /extend Contract/,
    );
    await expect(bundleOf({ 'index.js': '', 'package.json': '{' })).rejects.toThrow(/not JSON/);
    await expect(
      bundleOf({
        'index.js': plain,
        'package.json': '{"name":"a","version":"1","daybook":{"indexes":5}}',
      }),
    ).rejects.toMatchObject({ code: 'MALFORMED' });
    await expect(
      bundleOf({
        'index.js': `${plain}\nmodule.exports.big = '${'x'.repeat(limits.contractBundleBytesMax)}';`,
      }),
    ).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      details: { limit: 'contractBundleBytesMax' },
    });
  });

  it.each([
    'fs',
    'node:fs',
    'net',
    'http',
    'child_process',
    'fs/promises',
    'timers',
    'os',
    'worker_threads',
    'node:test',
  ])('refuses the module %s', async (name) => {
    const refusal = bundleOf({ 'index.js': `${plain}\nrequire('${name}');` });
    await expect(refusal).rejects.toMatchObject({
      code: 'CONTRACT_NONDETERMINISTIC',
      details: { module: name.replace('node:', '') },
    });
  });

  it('offers stand-ins for harmless modules', async () => {
    const bundle = await bundleOf({
      'index.js': `
        const { Contract } = require('fabric-contract-api');
        const { createHash, randomBytes } = require('node:crypto');
        const util = require('util');
        const EventEmitter = require('events');
        const assert = require('assert');
        const { Buffer: Same } = require('buffer');
        module.exports.contracts = [class Sample extends Contract {
          async hash(ctx, text) { return createHash('sha256').update(text).update(Buffer.from('!')).digest('hex') + ' ' + createHash('sha256').update('x').digest().length; }
          async chance() { return randomBytes(4); }
          async rest() {
            const heard = [];
            const emitter = new EventEmitter();
            emitter.once('a', (value) => heard.push(value));
            emitter.emit('a', 1); emitter.emit('a', 2);
            assert(true); assert.strictEqual(1, 1);
            return [heard, util.format('a', { b: 1 }), Same === Buffer, new TextDecoder().decode(new TextEncoder().encode('grüße')), process.env.HOME === undefined];
          }
        }];`,
    });
    const harness = new Harness([bundle]);
    expect(await harness.result('hash', 'grüße')).toMatch(/^[0-9a-f]{64} 32$/);
    expect(await harness.refusal('chance')).toMatch(
      /^CONTRACT_NONDETERMINISTIC: crypto\.randomBytes/,
    );
    expect(JSON.parse(await harness.result('rest'))).toEqual([
      [1],
      'a {"b":1}',
      true,
      'grüße',
      true,
    ]);
  });
});

describe('installing', () => {
  const bundle = { name: 'sample', version: '1', options: { readYourWrites: false, indexes: {} } };

  it('refuses broken bundles with a typed error and keeps the old version', async () => {
    const harness = new Harness([await bundleOf({ 'index.js': plain })]);
    for (const source of [
      'const = 5',
      'throw new Error("at once")',
      'module.exports = {}',
      '}); (function () {',
      'return import.meta',
    ]) {
      expect(() => harness.runtime.install({ ...bundle, source })).toThrowError(
        expect.objectContaining({ code: 'CONTRACT_BUNDLE_INVALID' }) as Error,
      );
    }
    expect(await harness.result('hello')).toBe('hello');
    await expect(async () =>
      harness.runtime.install(await bundleOf({ 'index.js': `${plain}; Math.random();` })),
    ).rejects.toMatchObject({ code: 'CONTRACT_NONDETERMINISTIC' });
    await expect(async () =>
      harness.runtime.install(await bundleOf({ 'index.js': 'module.exports = { contracts: [] }' })),
    ).rejects.toThrow(/no contract class/);
    await expect(async () =>
      harness.runtime.install(
        await bundleOf({ 'index.js': 'module.exports = { contracts: [class {}] }' }),
      ),
    ).rejects.toThrow();
  });

  it('replaces the version that was there', async () => {
    const harness = new Harness([await bundleOf({ 'index.js': plain })]);
    harness.runtime.install(await bundleOf({ 'index.js': plain.replace("'hello'", "'bye'") }));
    expect(await harness.result('hello')).toBe('bye');
    expect(harness.runtime.options('sample')).toEqual({ readYourWrites: false, indexes: {} });
    expect(harness.runtime.options('none')).toBeUndefined();
    const unknown = { ...harness.newCall('x', []), contract: 'none' };
    expect(await harness.runtime.call(unknown, harness.state.access(unknown))).toMatchObject({
      ok: false,
      code: 'CONTRACT_UNKNOWN',
    });
  });
});

describe('the scaffold', () => {
  it('is a working contract', async () => {
    const directory = join(mkdtempSync(join(tmpdir(), 'daybook-scaffold-')), 'sample');
    try {
      expect(await scaffoldContract(realIo().disk, directory)).toContain('package.json');
      await expect(scaffoldContract(realIo().disk, directory)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      const harness = new Harness([await bundleContract(directory)]);
      expect(await harness.result('add', 'apples', '3')).toBe('3');
      expect(await harness.result('add', 'apples', '-1')).toBe('2');
      expect(await harness.refusal('add', 'apples', '-5')).toMatch(/must not go below 0/);
      expect(await harness.result('read', 'apples')).toBe('2');
    } finally {
      rmSync(join(directory, '..'), { recursive: true });
    }
  });
});
