import { parseArgs } from 'node:util';
import { edgeMutants } from './edge-mutants.ts';
import { explore, exploreTogether } from './explore.ts';
import { noMutant } from './mutant.ts';
import { mutants } from './mutants.ts';
import { overloadMutants } from './overload-mutants.ts';
import { quotaMutants } from './quota-mutants.ts';
import { registryMutants } from './registry-mutants.ts';
import { repairMutants } from './repair-mutants.ts';
import { exitCodes, explain, explainUnequal, printRun } from './report.ts';
import { retentionMutants } from './retention-mutants.ts';
import { rotMutants } from './rot-mutants.ts';
import { type RunOptions, runSeed } from './run.ts';
import { singleMutants } from './single-mutants.ts';
import { wrongWorlds } from './wrong-worlds.ts';

/*
 * npm run sim -- --seed=0x2a [--ticks=5000] [--mutant=NAME]   one seed, twice
 * npm run sim -- --minutes=10 [--ticks=5000] [--workers=2]     fresh seeds, each twice
 */

const bugs = [
  ...mutants,
  ...edgeMutants,
  ...overloadMutants,
  ...quotaMutants,
  ...registryMutants,
  ...repairMutants,
  ...retentionMutants,
  ...rotMutants,
  ...singleMutants,
  ...wrongWorlds,
];

const usage = `usage: npm run sim -- [--seed=N] [--ticks=MS] [--minutes=N] [--workers=N] [--mutant=NAME]
                    [--log=embedded|etcd] [--workload=mixed|load] [--retention] [--rot] [--quota] [--repair] [--singles] [--readers] [--federation] [--json]
  --seed     replay this seed, twice; decimal or 0x…
  --ticks    virtual milliseconds in which things break (default 3000)
  --minutes  try fresh seeds for so long (default 1 when there is no seed)
  --workers  processes that try seeds (default 2)
  --log      where the log lies, and
  --workload what clients do, instead of what the seed draws
  --retention   the log is trimmed behind snapshots, instead of what the seed draws
  --rot         stored blocks rot there, and nodes hand out what does not hold
  --quota       its etcd runs out of space, instead of what the seed draws
  --repair      nodes compare and mend their states, instead of what the seed draws
  --singles     programs sign their calls singly, instead of what the seed draws
  --readers     programs follow contract events, instead of what the seed draws
  --federation  registries under several administrations instead of a ledger
  --help     this text
  --json     a line of JSON for each seed, and what all of them showed
  --mutant   switch a deliberate bug on: ${bugs.map(({ name }) => name).join(', ')}
exit codes: 0 passed, 2 usage, 10 crash, 11 liveness, 12 correctness, 13 two runs of a seed differ`;

async function replay(options: RunOptions, json: boolean): Promise<number> {
  const first = await runSeed(options);
  printRun(first, json);
  const second = await runSeed(options);
  if (second.traceHash !== first.traceHash) return explainUnequal(first, second, options);
  return explain(first, options);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      ticks: { type: 'string', default: '3000' },
      minutes: { type: 'string', default: '1' },
      workers: { type: 'string', default: '2' },
      mutant: { type: 'string' },
      log: { type: 'string' },
      workload: { type: 'string' },
      federation: { type: 'boolean' },
      retention: { type: 'boolean' },
      rot: { type: 'boolean' },
      quota: { type: 'boolean' },
      repair: { type: 'boolean' },
      singles: { type: 'boolean' },
      readers: { type: 'boolean' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  const { json } = values;
  const ticks = Number(values.ticks);
  const minutes = Number(values.minutes);
  const workers = Number(values.workers);
  const mutant =
    values.mutant === undefined ? noMutant : bugs.find(({ name }) => name === values.mutant);
  const seed = values.seed === undefined ? undefined : Number(values.seed);
  const wrong = {
    log: !['embedded', 'etcd', undefined].includes(values.log),
    workload: !['mixed', 'load', undefined].includes(values.workload),
    ticks: !(ticks > 0),
    minutes: !(minutes > 0),
    workers: !(workers >= 1),
    mutant: mutant === undefined,
    seed: Number.isNaN(seed),
  };
  const option = Object.entries(wrong).find(([, isWrong]) => isWrong)?.[0];
  if (option !== undefined || mutant === undefined) {
    process.stderr.write(`--${option} has a value that it does not take\n${usage}\n`);
    return exitCodes.usage;
  }
  const run = {
    ticks,
    ...(mutant === noMutant ? {} : { mutant }),
    ...(values.federation === undefined ? {} : { federation: values.federation }),
    ...(values.retention === undefined ? {} : { retention: values.retention }),
    ...(values.rot === undefined ? {} : { rot: values.rot }),
    ...(values.quota === undefined ? {} : { quota: values.quota }),
    ...(values.repair === undefined ? {} : { repair: values.repair }),
    ...(values.singles === undefined ? {} : { singles: values.singles }),
    ...(values.readers === undefined ? {} : { readers: values.readers }),
    ...(values.log === undefined ? {} : { log: values.log as 'embedded' | 'etcd' }),
    ...(values.workload === undefined ? {} : { workload: values.workload as 'mixed' | 'load' }),
  };
  if (seed !== undefined) return await replay({ ...run, seed }, json);
  return workers === 1
    ? await explore({ run, minutes, json })
    : await exploreTogether(workers, json);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
  process.exitCode = exitCodes.usage;
}
