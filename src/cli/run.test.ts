import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import type { CliContext } from './context.ts';
import { exitCodes } from './exit-codes.ts';
import { writeNetworkFile } from './network-file.ts';
import { createProgram } from './run.ts';
import { type Ran, runCaptured } from './testing/run-captured.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-cli-'));
});
afterEach(() => rm(directory, { recursive: true }));

function daybook(...args: string[]): Promise<Ran> {
  return runCaptured(directory, args);
}

test('help lists every exit code and goes to stdout', async () => {
  const { code, out, err } = await daybook('--help');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  for (const exitCode of Object.values(exitCodes)) {
    expect(out).toMatch(new RegExp(`^ *${exitCode}  \\w`, 'm'));
  }
});

test('every command has help with examples, and --json', async () => {
  const program = createProgram({ terminal: { out: () => undefined } } as unknown as CliContext);
  const leaves = program.commands.flatMap((command) =>
    command.commands.length > 0
      ? command.commands.map((leaf) => [command.name(), leaf.name()])
      : [[command.name()]],
  );
  expect(leaves.length).toBeGreaterThan(12);
  for (const leaf of leaves) {
    const { code, out } = await daybook(...leaf, '--help');
    expect({ leaf, code }).toEqual({ leaf, code: 0 });
    expect(out).toContain(`$ daybook ${leaf.join(' ')}`);
    expect(out).toContain('--json');
  }
});

test.each([
  ['unknown-command'],
  ['submit', 'bank'],
  ['up', '--executors', 'many'],
  ['up', '--executors', '0'],
  ['log', 'tail', '--from', '-1'],
  ['status', '--timeout', 'soon'],
  ['identity', 'create', 'alice', '--role', 'king'],
  ['identity', 'create', 'alice', '--attribute', 'nonsense'],
])('wrong usage: %s %s %s %s', async (...args) => {
  const { code, out, err } = await daybook(...args);
  expect({ code, out }).toEqual({ code: exitCodes.usage, out: '' });
  expect(err).toMatch(/^USAGE: /);
  const json = await daybook(...args, '--json');
  expect(JSON.parse(json.err)).toMatchObject({ error: { code: 'USAGE', remedy: 'See `--help`.' } });
});

test.each([
  ['--private-ca', 'ca.pem', 'go together'],
  ['--private-host', '0.0.0.0', 'other nodes are told 0.0.0.0 as it is'],
])(
  'wrong options are refused before an etcd is started for them: %s %s',
  async (name, value, why) => {
    const { code, err } = await daybook('up', '--log', 'etcd-local', name, value);
    expect({ code, err }).toMatchObject({
      code: exitCodes.usage,
      err: expect.stringContaining(why),
    });
    expect(await realIo().disk.list(join(directory, '.daybook', 'etcd'))).toEqual([]);
  },
);

test('a file that is not there, or cannot be written, is said by its name', async () => {
  const config = await daybook('source', 'remove', '--config', 'nothing.ts');
  expect(config).toMatchObject({
    code: exitCodes.usage,
    err: expect.stringMatching(/^NOT_FOUND: there is no file nothing.ts$/m),
  });
  const log = await daybook('up', '--log-file', '.');
  expect(log).toMatchObject({
    code: exitCodes.usage,
    err: expect.stringMatching(/^IO_FAILED: EISDIR/),
  });
});

test('without a network the error says how to get one', async () => {
  const { code, err } = await daybook('status');
  expect(code).toBe(exitCodes.usage);
  expect(err).toMatch(/^NOT_FOUND: no network in .*daybook up/);
});

test('identities are made, listed and shown; of another MSP, too', async () => {
  expect(await daybook('identity', 'list')).toMatchObject({ code: 0 });
  const made = await daybook('identity', 'create', 'alice', '--role', 'admin', '--json');
  const alice = JSON.parse(made.out);
  expect(alice).toMatchObject({ name: 'alice', mspId: 'Org1MSP' });
  expect(alice.subject).toBe('CN=alice, O=Org1MSP, OU=admin');
  expect((await stat(alice.keyFile)).mode & 0o777).toBe(0o600);

  await daybook('identity', 'create', 'bob', '--msp', 'Org2MSP');
  const list = JSON.parse((await daybook('identity', 'list', '--json')).out);
  expect(list.map((one: { name: string }) => one.name)).toEqual(['alice', 'Org2MSP/bob']);
  const shown = await daybook('identity', 'show', 'Org2MSP/bob');
  expect(shown.out).toContain('CN=bob, O=Org2MSP, OU=client');

  expect(await daybook('identity', 'create', 'alice')).toMatchObject({ code: exitCodes.usage });
  expect(await daybook('identity', 'show', 'nobody')).toMatchObject({ code: exitCodes.usage });
  expect(await daybook('identity', 'show', '../x')).toMatchObject({ code: exitCodes.usage });
});

test('a network that does not answer is unreachable', async () => {
  await daybook('identity', 'create', 'alice');
  await writeNetworkFile(realIo(), join(directory, '.daybook'), {
    version: 1,
    channel: 'main',
    mspId: 'Org1MSP',
    // Port 1 is never served.
    gateways: ['http://127.0.0.1:1'],
    identity: 'alice',
  });
  for (const command of [['status'], ['contract', 'list'], ['log', 'tail'], ['tx', 'ab']]) {
    const { code, err } = await daybook(...command);
    expect({ command, code }).toEqual({ command, code: exitCodes.unreachable });
    expect(err).toMatch(/^PEER_UNREACHABLE: /);
  }
});

test('what is named wrong is said by its name', async () => {
  await daybook('identity', 'create', 'alice');
  const network = ['--channel', 'main', '--identity', 'alice'];
  const gateway = await daybook('status', ...network, '--gateway', 'localhost:4270');
  expect(gateway).toMatchObject({ code: exitCodes.usage });
  expect(gateway.err).toMatch(/^INVALID_ARGUMENT: .*localhost:4270/);
  const identity = await daybook(
    'status',
    '--gateway',
    'http://127.0.0.1:1',
    '--channel',
    'main',
    '--identity',
    'bob',
  );
  expect(identity.err).toMatch(/^NOT_FOUND: no identity bob in .*daybook identity list/);
  const files = await daybook('block', 'list', '--files', 'nowhere');
  expect(files).toMatchObject({ code: exitCodes.usage });
  expect(files.err).toMatch(/^NOT_FOUND: no block files in .*nowhere/);
  const retain = await daybook('up', '--retain', '100:1');
  expect(retain.err).toMatch(/^USAGE: --retain: only with --log/);
});

test('a registry takes nothing in that it cannot work with', async () => {
  const { code } = await daybook('registry', 'init', 'uddi:books.example:node');
  expect(code).toBe(0);
  const authority = join(directory, '.daybook/registry/authority.cert.pem');
  const maps = 'uddi:maps.example:node';
  for (const [args, said] of [
    [['peer', maps, '--authority', authority, '--url', 'maps'], /^INVALID_ARGUMENT: not https:/],
    [['peer', maps, '--authority', authority, '--url', 'http://m:1'], /^INVALID_ARGUMENT: not h/],
    [['peer', maps, '--authority', '.daybook/registry/registry.json'], /^INVALID_ARGUMENT: .*PEM/],
    [['admit', maps], /^NOT_FOUND: uddi:maps.* not known here.*registry peer/],
    [['withdraw', 'x'], /^USAGE: /],
    [['correct', '0'], /^USAGE: /],
  ] as const) {
    const ran = await daybook('registry', ...args);
    expect(ran).toMatchObject({ code: exitCodes.usage, err: expect.stringMatching(said) });
  }
});

test('a contract cannot be begun in a file', async () => {
  await realIo().disk.writeFile(join(directory, 'file'), Buffer.from('x'));
  for (const path of ['file', 'file/below']) {
    const { code, err } = await daybook('contract', 'new', path);
    expect({ path, code }).toEqual({ path, code: exitCodes.usage });
    expect(err).toMatch(/^IO_FAILED: .*file/);
  }
});

test('a damaged network.json is named', async () => {
  const io = realIo();
  const path = join(directory, '.daybook', 'network.json');
  await io.disk.makeDirectory(join(directory, '.daybook'));
  for (const text of ['{', '{"version":2}', '{"version":1,"gateways":[1]}', 'null']) {
    await io.disk.writeFile(path, Buffer.from(text));
    const { code, err } = await daybook('status');
    expect({ text, code }).toEqual({ text, code: exitCodes.usage });
    expect(err).toMatch(/^CONFIG_INVALID: .*network\.json/);
  }
});

test('the bench is part of the source checkout only', async () => {
  // Beside the sources, where this test runs, there is no compiled bench.
  const { code, err } = await daybook('bench', 'commit', '--seconds', '1');
  expect(code).toBe(exitCodes.usage);
  expect(err).toContain('npm run bench -- commit');
});
