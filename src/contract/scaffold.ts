import { basename, join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Disk } from '../io/index.ts';
import { isContractName } from '../model/index.ts';

/**
 * Writes a small contract to start from into a directory that does not exist or is empty. Returns
 * the names of the files.
 *
 * @param root - absolute.
 * @throws {DaybookError} `INVALID_ARGUMENT` when the directory has files in it; `IO_FAILED`.
 */
export async function scaffoldContract(disk: Disk, root: string): Promise<string[]> {
  await disk.makeDirectory(root);
  if ((await disk.list(root)).length > 0) {
    throw new DaybookError('INVALID_ARGUMENT', `${root} is not empty`, {
      details: { directory: root },
    });
  }
  const wanted = basename(root);
  const files = contractFiles(isContractName(wanted) ? wanted : 'my-contract');
  for (const [name, text] of Object.entries(files)) {
    await disk.writeFile(join(root, name), Buffer.from(text));
  }
  return Object.keys(files);
}

function contractFiles(name: string): Record<string, string> {
  const manifest = {
    name,
    version: '1.0.0',
    private: true,
    main: 'index.js',
    dependencies: { 'fabric-contract-api': '^2.5.8' },
    daybook: { readYourWrites: true, indexes: {} },
  };
  return {
    'package.json': `${JSON.stringify(manifest, undefined, 2)}\n`,
    'index.js': contractSource,
    'README.md': readme(name),
  };
}

const contractSource = `'use strict';

const { Contract } = require('fabric-contract-api');

/** Counters that anyone may raise. */
class Counter extends Contract {
  /** Adds to a counter; returns its new value. */
  async add(ctx, name, amount) {
    const stored = await ctx.stub.getState(name);
    const before = stored.length === 0 ? 0n : BigInt(stored.toString());
    const after = before + BigInt(amount);
    if (after < 0n) throw new Error(\`\${name} must not go below 0\`);
    await ctx.stub.putState(name, Buffer.from(after.toString()));
    return after.toString();
  }

  /** The value of a counter, 0 when it was never raised. */
  async read(ctx, name) {
    const stored = await ctx.stub.getState(name);
    return stored.length === 0 ? '0' : stored.toString();
  }
}

module.exports.contracts = [Counter];
`;

function readme(name: string): string {
  return `# ${name}

A contract for Daybook, written with Fabric's contract API.

\`\`\`sh
daybook contract deploy .
daybook submit ${name} add apples 3
daybook evaluate ${name} read apples
\`\`\`

To upgrade, change the code, raise \`version\` in package.json and deploy again.
`;
}
