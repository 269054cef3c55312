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

/** Resident memory of a process and all its descendants, MiB (Linux). */
export function residentMiB(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
  const shared = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[2]);
  let total = ((pages - shared) * 4096) / 1024 / 1024;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8');
    for (const child of children.split(' ').filter(Boolean)) total += residentMiB(Number(child));
  }
  return total;
}
