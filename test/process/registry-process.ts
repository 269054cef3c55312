import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { outcomeIn, soap } from '../../examples/registry/administration.ts';
import { realIo } from '../../src/io/index.ts';
import { freePort } from '../../src/io/testing/free-ports.ts';
import { RegistryFiles } from '../../src/node/index.ts';
import { command } from './built.ts';

const run = promisify(execFile);

interface Served {
  readonly apiUrl: string;
  readonly replicationUrl: string;
}

/** `daybook registry up` of one administration, in processes of its own. */
export class RegistryProcess {
  readonly node: string;
  readonly directory: string;
  readonly files: RegistryFiles;
  readonly #port: number;
  readonly #fullUrl: string;
  /** What serves the registry. */
  #child: ChildProcess | undefined;
  readonly #started: ChildProcess[] = [];
  #served: Served | undefined;
  #token = '';
  /** What it said on stderr. */
  said = '';

  private constructor(node: string, directory: string, port: number) {
    this.node = node;
    this.directory = directory;
    this.files = new RegistryFiles(realIo(), directory);
    this.#port = port;
    this.#fullUrl = `https://127.0.0.1:${port}`;
  }

  /** Sets one up, with a publisher `ann`. */
  static async init(
    name: string,
    parent: string,
    joins?: readonly RegistryProcess[],
  ): Promise<RegistryProcess> {
    const node = `uddi:${name}.example:node`;
    const one = new RegistryProcess(node, join(parent, name), await freePort());
    const addresses = {
      api: { host: '127.0.0.1', port: 0 },
      replication: { host: '127.0.0.1', port: one.#port },
    };
    await one.files.init(
      node,
      addresses,
      joins?.map((other) => other.node),
    );
    await one.files.setAccount('ann', 'secret');
    return one;
  }

  key(rest: string): string {
    return this.node.replace(/node$/, rest);
  }

  async know(
    other: RegistryProcess,
    options: { readonly authorityOf?: RegistryProcess; readonly heardOf?: true } = {},
  ): Promise<void> {
    const { authorityOf = other, heardOf } = options;
    const authority = await authorityOf.files.text('authority.cert.pem');
    const url = heardOf === true ? undefined : other.#fullUrl;
    await this.files.setPeer(other.node, url, authority);
  }

  /** Starts ledger and registry; resolves when both serve. */
  async up(): Promise<void> {
    await this.#serve(['up', ...this.#ledgerOptions]);
  }

  /** Starts the ledger only. */
  async ledgerUp(): Promise<void> {
    await this.#start(['up', ...this.#ledgerOptions]);
  }

  /** Starts the registry on the ledger that runs already. */
  async attach(): Promise<void> {
    await this.#serve(['up', '-d', this.directory, '--attach']);
  }

  get #ledgerOptions(): readonly string[] {
    return ['-d', this.directory, '-p', '0', '-e', '1', '--no-blocks'];
  }

  async #serve(args: readonly string[]): Promise<void> {
    const { child, first } = await this.#start(['registry', ...args]);
    this.#child = child;
    this.#served = first as Served;
    const answer = await this.ask('<get_authToken userID="ann" cred="secret"/>');
    this.#token = /<authInfo>([^<]*)</.exec(answer)?.[1] ?? '';
  }

  /** Starts a command that goes on; resolves when it has said that it serves. */
  async #start(args: readonly string[]): Promise<{ child: ChildProcess; first: unknown }> {
    const child = spawn(process.execPath, [command, ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#started.push(child);
    child.stderr.on('data', (text) => {
      this.said += String(text);
    });
    const first = await new Promise<unknown>((resolve, reject) => {
      child.stdout.once('data', (text) => resolve(JSON.parse(String(text))));
      child.once('exit', (code) => reject(new Error(`it ended with ${code}: ${this.said}`)));
    });
    return { child, first };
  }

  /** kill -9 of all its processes. */
  kill(): void {
    for (const child of this.#started.splice(0)) killGroup(child);
  }

  /** kill -9 of the registry; a ledger that was started by itself goes on. */
  killRegistry(): void {
    if (this.#child !== undefined) killGroup(this.#child);
  }

  /** A command of the operator, e.g. `admit`. */
  async order(...args: readonly string[]): Promise<Record<string, unknown>> {
    const all = [command, 'registry', ...args, '-d', this.directory, '--json'];
    const { stdout } = await run(process.execPath, all);
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  /** A message of UDDI's APIs; the answer's body. */
  async ask(message: string): Promise<string> {
    const authorized = message.replace(
      /<authInfo( [^>]*)?\/>/,
      `<authInfo$1>${this.#token}</authInfo>`,
    );
    return await soap(`${this.#served?.apiUrl}/uddi/publication`, authorized);
  }

  /** Saves a business; UDDI's outcome. */
  async save(key: string, name: string): Promise<string> {
    const entity = `<businessEntity businessKey="${key}"><name>${name}</name></businessEntity>`;
    return outcomeIn(await this.ask(`<save_business><authInfo/>${entity}</save_business>`));
  }

  /** Names of all businesses, by key. */
  async content(): Promise<Record<string, string>> {
    const all =
      '<find_business><findQualifiers><findQualifier>approximateMatch</findQualifier></findQualifiers><name>%</name></find_business>';
    const found = (await this.ask(all)).matchAll(
      /<businessInfo businessKey="([^"]*)"><name>([^<]*)</g,
    );
    return Object.fromEntries([...found].map(([, key, name]) => [key, name]));
  }
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  process.kill(-pid, 'SIGKILL');
}
