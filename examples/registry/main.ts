import { runRegistryExample } from './run.ts';

await runRegistryExample((text) => {
  process.stdout.write(`${text}\n`);
});
