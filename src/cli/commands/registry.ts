import { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { registryOperations } from './registry-operations.ts';
import { registrySetup } from './registry-setup.ts';
import { registryUp } from './registry-up.ts';

/** `daybook registry`: a UDDI registry that several administrations keep together. */
export function registryCommand(context: CliContext): Command {
  const command = new Command('registry').description(
    'A UDDI registry that several administrations keep together; see docs/federation.md.',
  );
  const leaves = [...registrySetup(context), registryUp(context), ...registryOperations(context)];
  for (const leaf of leaves) command.addCommand(leaf);
  return command;
}
