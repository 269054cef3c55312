import { type DaybookError, errorCatalog } from '../base/index.ts';

/** Where a command writes, and how it hears that it should stop. */
export interface Terminal {
  /** Results. With `--json` nothing but JSON. */
  out(text: string): void;
  /** Progress, hints and errors. */
  err(text: string): void;
  /**
   * Resolves at the first SIGINT or SIGTERM. A command that asks ends by itself then; one that never
   * asked is ended by the signal.
   */
  interrupted(): Promise<void>;
}

/** Prints `value` as one JSON document, or `human` for people. */
export function print(
  terminal: Terminal,
  json: boolean | undefined,
  value: unknown,
  human: () => string | readonly string[],
): void {
  if (json) {
    terminal.out(`${JSON.stringify(value)}\n`);
    return;
  }
  const text = human();
  terminal.out(typeof text === 'string' ? `${text}\n` : text.map((line) => `${line}\n`).join(''));
}

/** Prints an error: code, message, remedy; with `--json` as `{"error": …}`. Both to stderr. */
export function printError(
  terminal: Pick<Terminal, 'err'>,
  json: boolean,
  error: DaybookError,
): void {
  const { remedy } = errorCatalog[error.code];
  if (json) {
    terminal.err(`${JSON.stringify({ error: { ...error.toJSON(), remedy } })}\n`);
    return;
  }
  terminal.err(`${error.code}: ${error.message}\n  ${remedy}\n`);
  if (error.code === 'INTERNAL' && error.cause instanceof Error) {
    terminal.err(`${error.cause.stack ?? error.cause.message}\n`);
  }
}

/** A number with its noun: `1 row`, `2 rows`. */
export function counted(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}

/** Rows as columns, padded; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
