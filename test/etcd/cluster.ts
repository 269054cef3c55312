import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts } from '../../src/io/testing/free-ports.ts';

/** What {@link startCluster} may be told. */
export interface ClusterOptions {
  readonly members?: number;
  /** `--quota-backend-bytes`. */
  readonly quotaBytes?: number;
  /** More arguments of `etcd`, for every member. */
  readonly args?: readonly string[];
  /** For client connections. */
  readonly scheme?: 'http' | 'https';
  /** Hosts of their own for the members: the address, and the command that runs another there. */
  readonly hosts?: readonly { readonly address: string; readonly command: readonly string[] }[];
}

interface Member {
  readonly name: string;
  readonly endpoint: string;
  readonly command: readonly string[];
  process: ChildProcess | undefined;
}

/** A line of `etcdctl member list`. */
interface ListedMember {
  readonly id: string;
  readonly name: string;
  readonly peer: string;
}

/** Where a new member is to be reached by the others, and the member once its cluster is known. */
type NewMember = (name: string) => Promise<{
  readonly peer: string;
  readonly member: (initialCluster: string, state: 'new' | 'existing') => Member;
}>;

/** Real etcd members on free ports, in a temporary directory. */
export class Cluster {
  readonly #directory: string;
  readonly #members: Member[];
  readonly #newMember: NewMember;
  #added = 0;

  constructor(directory: string, members: readonly Member[], newMember: NewMember) {
    this.#directory = directory;
    this.#members = [...members];
    this.#newMember = newMember;
  }

  get endpoints(): string[] {
    return this.#members.map((member) => member.endpoint);
  }

  start(member: number): void {
    const it = this.#at(member);
    const [program = '', ...args] = it.command;
    it.process = spawn(program, args, { stdio: process.env.ETCD_LOG ? 'inherit' : 'ignore' });
  }

  /** kill -9; resolves when the process is gone. */
  async kill(member: number): Promise<void> {
    const it = this.#at(member);
    const child = it.process;
    it.process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** Takes a member out of the cluster for good; those after it move down by one. */
  async remove(member: number): Promise<void> {
    const { name } = this.#at(member);
    const id = this.#list().find((each) => each.name === name)?.id;
    if (id === undefined) throw new Error(`no member ${name}`);
    const others = this.endpoints.filter((_, index) => index !== member);
    await this.#change(['remove', id], others, (list) => list.every((each) => each.id !== id));
    await this.kill(member);
    this.#members.splice(member, 1);
  }

  /** Adds and starts a new member, the last one from now on. */
  async add(): Promise<void> {
    const name = `added${this.#added++}`;
    const { peer, member } = await this.#newMember(name);
    const list = await this.#change(['add', name, `--peer-urls=${peer}`], this.endpoints, (all) =>
      all.some((each) => each.peer === peer),
    );
    // A member that has not started yet has no name.
    const initial = list.map((each) => `${each.peer === peer ? name : each.name}=${each.peer}`);
    this.#members.push(member(initial.join(), 'existing'));
    this.start(this.#members.length - 1);
  }

  /**
   * etcd refuses changes while it is not sure of its members' health, for some seconds. And
   * `etcdctl` may fail though the change is done, when it asks again after a lost answer: so what
   * counts is the list of members afterwards, which is returned.
   */
  async #change(
    args: readonly string[],
    endpoints: readonly string[],
    isDone: (list: readonly ListedMember[]) => boolean,
  ): Promise<readonly ListedMember[]> {
    for (let attempt = 1; ; attempt++) {
      let failure = new Error(`member ${args.join(' ')} has no effect`);
      try {
        this.#etcdctlAt(endpoints, 'member', ...args);
      } catch (error) {
        failure = error as Error;
      }
      // The member that is asked may be a little behind.
      for (let look = 0; look < 10; look++) {
        try {
          const list = this.#list(endpoints);
          if (isDone(list)) return list;
        } catch {
          // No member answers now.
        }
        await pause(50);
      }
      if (attempt === 50) throw failure;
    }
  }

  #list(endpoints: readonly string[] = this.endpoints): ListedMember[] {
    const lines = this.#etcdctlAt(endpoints, 'member', 'list').trim().split('\n');
    return lines.map((line) => {
      const [id = '', , name = '', peer = ''] = line.split(', ');
      return { id, name, peer };
    });
  }

  pause(member: number): void {
    this.#at(member).process?.kill('SIGSTOP');
  }

  resume(member: number): void {
    this.#at(member).process?.kill('SIGCONT');
  }

  /** Runs `etcdctl` against all members; returns what it prints. */
  etcdctl(...args: string[]): string {
    return this.#etcdctlAt(this.endpoints, ...args);
  }

  #etcdctlAt(endpoints: readonly string[], ...args: string[]): string {
    return execFileSync('etcdctl', [`--endpoints=${endpoints.join()}`, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** The member that leads; waits for one. */
  async leader(): Promise<number> {
    for (let attempt = 0; attempt < 100; attempt++) {
      for (const [index, member] of this.#members.entries()) {
        if (member.process === undefined) continue;
        try {
          const text = execFileSync(
            'etcdctl',
            [
              `--endpoints=${member.endpoint}`,
              '--command-timeout=1s',
              'endpoint',
              'status',
              '-w',
              'json',
            ],
            {
              env: { ...process.env, ETCDCTL_API: '3' },
              encoding: 'utf8',
              stdio: ['ignore', 'pipe', 'ignore'],
            },
          );
          const ids = [...text.matchAll(/"(member_id|leader)":(\d+)/g)].map((match) => match[2]);
          if (ids.length === 2 && ids[0] === ids[1]) return index;
        } catch {
          // It does not answer now.
        }
      }
      await pause(100);
    }
    throw new Error('no leader');
  }

  /** Without waiting: this process ends. */
  killAll(): void {
    for (const member of this.#members) member.process?.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map((_, index) => this.kill(index)));
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #at(member: number): Member {
    const it = this.#members[member];
    if (it === undefined) throw new Error(`no member ${member}`);
    return it;
  }
}

/** Starts a cluster; it may take a moment until it has a leader. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const count = options.members ?? 3;
  const scheme = options.scheme ?? 'http';
  const directory = mkdtempSync(join(tmpdir(), 'daybook-etcd-'));
  const place = (
    name: string,
    [clientPort, peerPort]: readonly number[],
    host?: { readonly address: string; readonly command: readonly string[] },
  ): Awaited<ReturnType<NewMember>> => {
    const address = host?.address ?? '127.0.0.1';
    const client = `${scheme}://${address}:${clientPort}`;
    const peer = `http://${address}:${peerPort}`;
    const member = (initialCluster: string, state: 'new' | 'existing'): Member => ({
      name,
      endpoint: `${address}:${clientPort}`,
      command: [
        ...(host?.command ?? []),
        'etcd',
        `--name=${name}`,
        `--data-dir=${join(directory, name)}`,
        `--listen-client-urls=${client}`,
        `--advertise-client-urls=${client}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=${initialCluster}`,
        `--initial-cluster-state=${state}`,
        `--initial-cluster-token=${directory}`,
        '--log-level=error',
        '--logger=zap',
        ...(options.quotaBytes ? [`--quota-backend-bytes=${options.quotaBytes}`] : []),
        ...(options.args ?? []),
      ],
      process: undefined,
    });
    return { peer, member };
  };
  // All at once: one at a time might be given a port twice.
  const ports = await freePorts(2 * count);
  const founders = Array.from({ length: count }, (_, index) =>
    place(`m${index}`, ports.slice(2 * index), options.hosts?.[index]),
  );
  const initial = founders.map(({ peer }, index) => `m${index}=${peer}`).join();
  const members = founders.map(({ member }) => member(initial, 'new'));
  const cluster = new Cluster(directory, members, async (name) => place(name, await freePorts(2)));
  for (let index = 0; index < count; index++) cluster.start(index);
  process.once('exit', () => {
    cluster.killAll();
  });
  return cluster;
}

/**
 * True when etcd can be run: it is installed, or could be. Tests skip themselves otherwise, and
 * say so.
 */
export function etcdAvailable(): boolean {
  if (installed()) return true;
  if (
    process.platform === 'linux' &&
    process.getuid?.() === 0 &&
    existsSync('/etc/debian_version')
  ) {
    const script = fileURLToPath(new URL('../../scripts/debian-packages', import.meta.url));
    try {
      execFileSync(script, { stdio: 'ignore', timeout: 300_000 });
    } catch {
      // Seen below.
    }
    if (installed()) return true;
  }
  console.warn('skipped: etcd is not installed (Debian: etcd-server, etcd-client)');
  return false;
}

function installed(): boolean {
  try {
    execFileSync('etcd', ['--version'], { stdio: 'ignore' });
    execFileSync('etcdctl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Resolves after `delayMs`. */
export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
