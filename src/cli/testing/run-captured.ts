import { realIo } from '../../io/index.ts';
import { runCli } from '../run.ts';

/** How a command ended, and what it printed. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command in this process, as a user would in `workingDirectory`. */
export async function runCaptured(workingDirectory: string, args: readonly string[]): Promise<Ran> {
  let [out, err] = ['', ''];
  const terminal = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
    interrupted: () => new Promise<void>(() => undefined),
  };
  const code = await runCli([...args], { io: realIo(), terminal, workingDirectory });
  return { code, out, err };
}
