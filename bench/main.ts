import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { pathToFileURL } from 'node:url';
import { DaybookError } from '../src/base/index.ts';
import { exitCodeOf } from '../src/cli/exit-codes.ts';
import { printError } from '../src/cli/terminal.ts';
import { blocksBench, blocksBenchDefaults } from './blocks.bench.ts';
import { bulkBench, bulkBenchDefaults } from './bulk.ts';
import { capacityBench, capacityBenchDefaults } from './capacity.bench.ts';
import { clusterBench, clusterBenchDefaults } from './cluster.bench.ts';
import { repositoryPath } from './cluster-under-load.ts';
import { commitBench, commitBenchDefaults } from './commit.ts';
import { contractBench, contractBenchDefaults } from './contract.bench.ts';
import { etcdBench, etcdBenchDefaults } from './etcd.bench.ts';
import { federationBench, federationBenchDefaults } from './federation.bench.ts';
import { logBench, logBenchDefaults } from './log.bench.ts';
import { merkleBench, merkleBenchDefaults } from './merkle.bench.ts';
import { replicaBench, replicaBenchDefaults } from './replica.bench.ts';
import { simulatorBench, simulatorBenchDefaults } from './simulator.bench.ts';
import { soakBench, soakBenchDefaults } from './soak.ts';
import { syncBench, syncBenchDefaults } from './sync.bench.ts';

/** Runs with settings and returns what is printed as JSON. */
type Bench = (settings: never, progress: (text: string) => void) => Promise<object>;

const benches: Readonly<Record<string, { readonly run: Bench; readonly defaults: object }>> = {
  bulk: { run: bulkBench as Bench, defaults: bulkBenchDefaults },
  commit: { run: commitBench as Bench, defaults: commitBenchDefaults },
  contract: { run: contractBench as Bench, defaults: contractBenchDefaults },
  log: { run: logBench as Bench, defaults: logBenchDefaults },
  etcd: { run: etcdBench as Bench, defaults: etcdBenchDefaults },
  cluster: { run: clusterBench as Bench, defaults: clusterBenchDefaults },
  capacity: { run: capacityBench as Bench, defaults: capacityBenchDefaults },
  replica: { run: replicaBench as Bench, defaults: replicaBenchDefaults },
  merkle: { run: merkleBench as Bench, defaults: merkleBenchDefaults },
  blocks: { run: blocksBench as Bench, defaults: blocksBenchDefaults },
  federation: { run: federationBench as Bench, defaults: federationBenchDefaults },
  sync: { run: syncBench as Bench, defaults: syncBenchDefaults },
  simulator: { run: simulatorBench as Bench, defaults: simulatorBenchDefaults },
  soak: { run: soakBench as Bench, defaults: soakBenchDefaults },
};

/**
 * `npm run bench -- NAME [--json] [--SETTING VALUE …]`: runs a bench, prints its result and appends
 * it to `bench/results.ndjson` with commit and machine.
 *
 * @throws {DaybookError} `USAGE`
 */
export async function runBench(args: readonly string[]): Promise<void> {
  const [name, ...rest] = args;
  const bench = benches[name ?? ''];
  const usage = `benches: ${Object.keys(benches).join(', ')}`;
  if (bench === undefined)
    throw new DaybookError('USAGE', name === undefined ? usage : `no bench ${name}; ${usage}`);
  const settings: Record<string, unknown> = { ...bench.defaults };
  let json = false;
  for (let at = 0; at < rest.length; at++) {
    const option = rest[at] ?? '';
    if (option === '--json') {
      json = true;
      continue;
    }
    const key = option.replace(/^--/, '');
    const value = Number(rest[++at]);
    if (!(key in settings) || !Number.isFinite(value)) {
      throw new DaybookError(
        'USAGE',
        `${name} takes --json and numbers for: ${Object.keys(settings).join(', ')}`,
      );
    }
    settings[key] = value;
  }
  const result = await bench.run(settings as never, (text) => {
    process.stderr.write(`${name}: ${text}\n`);
  });
  process.stdout.write(`${JSON.stringify(result, undefined, json ? undefined : 2)}\n`);
  const line = { bench: name, at: new Date().toISOString(), ...provenance(), ...result };
  appendFileSync(repositoryPath('bench/results.ndjson'), `${JSON.stringify(line)}\n`);
}

function provenance(): { commit: string; machine: string } {
  let commit = 'unknown';
  try {
    commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    // A copy without its history still runs benches.
  }
  return { commit, machine: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}` };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await runBench(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof DaybookError && error.code === 'USAGE')) throw error;
    const err = (text: string): void => void process.stderr.write(text);
    printError({ err }, process.argv.includes('--json'), error);
    process.exitCode = exitCodeOf(error);
  }
}
