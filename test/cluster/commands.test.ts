import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { discoverGateways } from '../../src/client/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { command, root } from '../process/built.ts';
import { until } from './chains.ts';

const run = promisify(execFile);

interface Listed {
  readonly nodes: readonly { readonly name: string; readonly draining: boolean }[];
  readonly leader: { readonly node: string } | null;
}

/* The commands of an operator who tries a network of many machines on one. */

describe.skipIf(!etcdAvailable())('commands for many machines', { timeout: 300_000 }, () => {
  let directory: string;
  let up: ChildProcess | undefined;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'daybook-commands-'));
  });
  afterEach(() => {
    // When the test has failed: the network, and etcd, which outlives whoever started it.
    if (up?.pid !== undefined && up.exitCode === null) process.kill(-up.pid, 'SIGKILL');
    for (const pid of etcdMembers()) process.kill(pid, 'SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });

  async function daybook<T>(...args: string[]): Promise<T> {
    const { stdout } = await run(process.execPath, [command, ...args, '--json'], {
      cwd: directory,
    });
    return JSON.parse(stdout) as T;
  }

  /** Three members of etcd and two nodes with one command, until it is interrupted. */
  async function start(): Promise<{ readonly gateways: readonly string[] }> {
    const args = ['up', '--log', 'etcd-local', '--executors', '2', '--port', '0', '--no-blocks'];
    const child = spawn(process.execPath, [command, ...args, '--json'], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    up = child;
    return new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', (line) => resolve(JSON.parse(line)));
      child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
    });
  }

  async function leads(node: string): Promise<boolean> {
    return (await daybook<Listed>('node', 'list')).leader?.node === node;
  }

  test('start it all, list the nodes, move the sequencer, drain a node, stop', async () => {
    const { gateways } = await start();
    expect(gateways).toHaveLength(2);
    await until(async () => (await discoverGateways(gateways.slice(0, 1))).length === 2);
    expect([...(await discoverGateways(gateways.slice(0, 1)))].sort()).toEqual(
      [...gateways].sort(),
    );
    const { nodes } = await daybook<Listed>('node', 'list');
    expect(nodes.map(({ name }) => name)).toEqual(['executor-1', 'executor-2']);
    await daybook('contract', 'deploy', join(root, 'examples/contracts/bench'));

    await until(async () => (await daybook<Listed>('node', 'list')).leader !== null);
    const there = (await leads('executor-1')) ? 'executor-2' : 'executor-1';
    const other = there === 'executor-1' ? 'executor-2' : 'executor-1';
    await daybook('sequencer', 'move', there);
    await until(() => leads(there));
    // Where it is now, it may not stay; and clients go to the other node.
    await daybook('node', 'drain', there);
    await until(() => leads(other));
    const drained = await daybook<Listed>('node', 'list');
    expect(drained.nodes.filter(({ draining }) => draining).map(({ name }) => name)).toEqual([
      there,
    ]);
    const answer = await daybook<{ position?: number }>('submit', 'bench', 'move', 'a', 'b', '1');
    expect(answer.position).toBeGreaterThan(0);
    await daybook('node', 'drain', there, '--undo');
    expect((await daybook<Listed>('node', 'list')).nodes.some(({ draining }) => draining)).toBe(
      false,
    );

    await expect(daybook('node', 'forget', there)).rejects.toThrow(/NOT_FOUND/);
    // A name with a mistake in it founds no other log.
    const file = readFileSync(join(directory, '.daybook/network.json'), 'utf8');
    const { log } = JSON.parse(file) as { log: { url: string } };
    for (let again = 0; again < 2; again++) {
      await expect(daybook('node', 'list', '--log', `${log.url}x`)).rejects.toThrow(
        /NOT_FOUND.*no log named mainx/,
      );
    }

    expect(etcdMembers()).toHaveLength(3);
    const ended = new Promise((resolve) => up?.once('exit', resolve));
    up?.kill('SIGINT');
    expect(await ended).toBe(0);
    expect(etcdMembers()).toEqual([]);
  });

  /** Process ids of the members that have their data here. */
  function etcdMembers(): number[] {
    const lines = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' }).split('\n');
    return lines
      .filter((line) => /^\s*\d+ \S*etcd /.test(line) && line.includes(directory))
      .map((line) => Number.parseInt(line, 10));
  }
});
