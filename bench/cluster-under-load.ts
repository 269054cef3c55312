import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '../src/client/index.ts';
import { bundleContract } from '../src/contract/index.ts';
import { type Network, type NetworkOptions, startNetwork } from '../src/node/index.ts';
import type { LoadOptions, LoadResult } from './load-main.ts';

/** A development network in a directory of its own, with the `bench` contract deployed. */
export interface BenchNetwork {
  readonly directory: string;
  readonly network: Network;
  /** Runs the load generator in another process. */
  load(options: Partial<LoadOptions> & Pick<LoadOptions, 'work' | 'keys'>): Promise<LoadResult>;
  /** Stops the network and starts it again on the same directory; milliseconds until it answers. */
  reopen(): Promise<number>;
  close(): Promise<void>;
}

/** Starts a network for a bench; `close` removes its directory. */
export async function startBenchNetwork(
  options: Omit<Partial<NetworkOptions>, 'directory'>,
): Promise<BenchNetwork> {
  const directory = mkdtempSync(join(process.env.DAYBOOK_BENCH_DIR ?? tmpdir(), 'daybook-bench-'));
  const start = (): Promise<Network> =>
    startNetwork({ executors: 1, ...options, directory, httpPort: 0 });
  let network = await start();
  const client = await connect({
    gateways: network.gateways,
    channel: network.channel,
    signer: network.signer,
  });
  await client.deploy(await bundleContract(repositoryPath('examples/contracts/bench')));
  await client.close();
  return {
    directory,
    get network() {
      return network;
    },
    load: (load) =>
      runLoad({
        gateways: network.gateways,
        channel: network.channel,
        mspId: network.signer.identity.mspId,
        certificateFile: network.certificateFile,
        keyFile: network.keyFile,
        inFlight: 2000,
        seconds: 3600,
        ...load,
      }),
    reopen: async () => {
      await network.close();
      const started = performance.now();
      network = await start();
      return performance.now() - started;
    },
    close: async () => {
      await network.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A path inside the source tree, from the compiled bench or from the source. */
export function repositoryPath(path: string): string {
  const here = fileURLToPath(import.meta.url);
  const root = here.includes('/dist/bench/') ? '../../' : '../';
  return fileURLToPath(new URL(`${root}${path}`, import.meta.url));
}

function runLoad(options: LoadOptions): Promise<LoadResult> {
  const main = fileURLToPath(new URL('./load-main.js', import.meta.url));
  const source = import.meta.url.endsWith('.ts');
  const child = spawn(
    process.execPath,
    [
      ...(source ? ['--import', 'tsx', main.replace(/js$/, 'ts')] : [main]),
      JSON.stringify(options),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += String(chunk);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => {
      if (code === 0) resolve(JSON.parse(output) as LoadResult);
      else reject(new Error(`the load generator ended with ${code}`));
    });
  });
}

/** Resident memory of a process and all its descendants without shared pages, MiB (Linux). */
export function residentMiB(pid: number): number {
  let total = 0;
  for (const each of processTree(pid)) {
    const [, resident = 0, shared = 0] = procFile(each, 'statm').split(' ').map(Number);
    total += ((resident - shared) * 4096) / 1024 / 1024;
  }
  return total;
}

/** CPU time used so far by each process of the network, milliseconds, by role (Linux). */
export function cpuMsByRole(pid: number): Map<string, number> {
  const used = new Map<string, number>();
  for (const each of processTree(pid)) {
    const role = roleOf(each);
    if (role === undefined) continue;
    const stat = procFile(each, 'stat');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ms = (Number(fields[11]) + Number(fields[12])) * 10;
    used.set(role, (used.get(role) ?? 0) + ms);
  }
  return used;
}

/** The contract processes among a process's descendants (Linux). */
export function contractProcesses(pid: number): number[] {
  return processTree(pid).filter((each) => roleOf(each) === 'contract');
}

function roleOf(pid: number): string | undefined {
  const program = procFile(pid, 'cmdline')
    .split('\0')
    .find((part) => /main\.[jt]s$/.test(part));
  return roles.find(([pattern]) => pattern.test(program ?? ''))?.[1];
}

const roles: readonly (readonly [RegExp, string])[] = [
  [/runner-main/, 'contract'],
  [/executor-main/, 'executor'],
  [/bench\/main/, 'log'],
];

function processTree(pid: number): number[] {
  const found = [pid];
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const children = procFile(pid, `task/${task}/children`).split(' ').filter(Boolean);
    for (const child of children) found.push(...processTree(Number(child)));
  }
  return found;
}

function procFile(pid: number, name: string): string {
  return readFileSync(`/proc/${pid}/${name}`, 'utf8');
}
