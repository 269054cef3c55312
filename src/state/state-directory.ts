import { bytestringOf } from '../base/index.ts';
import type { Disk } from '../io/index.ts';

const flag = 'running';
const bootIdPath = '/proc/sys/kernel/random/boot_id';

/**
 * Tells whether a state directory can be trusted. The store in it is written without sync: the
 * operating system keeps the writes of a process that dies, but loses some when the machine stops.
 * While a state is open a flag file holds the machine's boot id; it goes away after a clean close.
 *
 * @returns true when the state was closed cleanly, or its process died on the machine's current
 *   run; false when the machine was restarted meanwhile, or cannot tell.
 */
export async function isTrusted(disk: Disk, directory: string): Promise<boolean> {
  const content = await disk.readFile(`${directory}/${flag}`);
  if (content === undefined) return true;
  const boot = await bootId(disk);
  return boot !== '' && bytestringOf(content) === boot;
}

/** Notes that the state is open. */
export async function markRunning(disk: Disk, directory: string): Promise<void> {
  await disk.writeFile(`${directory}/${flag}`, Buffer.from(await bootId(disk), 'latin1'));
}

/** Notes that everything is durable. */
export async function markClosed(disk: Disk, directory: string): Promise<void> {
  await disk.remove(`${directory}/${flag}`);
}

/** Changes at every start of the machine; empty where the platform does not tell. */
async function bootId(disk: Disk): Promise<string> {
  const bytes = await disk.readFile(bootIdPath);
  return bytes === undefined ? '' : bytestringOf(bytes).trim();
}
