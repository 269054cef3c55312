import { type ChildProcess, spawn as spawnProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DaybookError } from '../base/index.ts';
import { framedConnection } from './framed-connection.ts';
import type { Child, Connection, Processes, SpawnOptions } from './io.ts';

const connectionFd = 3;
const lineCharactersMax = 64 * 1024;
const lastWordsMs = 1_000;
/** `USER_HZ` of Linux: the unit of CPU times in /proc, the same on every architecture we run on. */
const clockTickMs = 10;

/** Node child processes, each with a socket pair to us. */
export function realProcesses(): Processes {
  return { spawn };
}

/** Runs beside a main thread that may be caught in an endless loop of someone else's code. */
const watchdog = `
  const { workerData } = require('node:worker_threads');
  setInterval(() => {
    if (process.ppid !== workerData.parentPid) process.kill(process.pid, 'SIGKILL');
  }, workerData.everyMs);
`;
const watchdogEveryMs = 500;

/**
 * The child's end of the connection that `Processes.spawn` made. A child never outlives its parent:
 * it exits when the connection closes, and is killed when it is too busy to notice.
 *
 * @throws {DaybookError} `USAGE` in a process that was not started by `Processes.spawn`.
 */
export function parentConnection(): Connection {
  let socket: Socket;
  try {
    socket = new Socket({ fd: connectionFd, readable: true, writable: true });
  } catch (cause) {
    throw new DaybookError('USAGE', 'this program is started by a Daybook node only', { cause });
  }
  socket.once('close', () => process.exit(0));
  new Worker(watchdog, {
    eval: true,
    env: {},
    workerData: { parentPid: process.ppid, everyMs: watchdogEveryMs },
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1 },
  }).unref();
  return framedConnection(socket);
}

function spawn(module: URL, options: SpawnOptions): Child {
  const path = fileURLToPath(module);
  // Sources run in tests; the built package has only .js.
  const loader = path.endsWith('.ts') ? ['--import', typescriptLoader()] : [];
  const child = spawnProcess(
    process.execPath,
    [...loader, ...(options.nodeOptions ?? []), path, ...(options.args ?? [])],
    {
      // What a child prints must not mix with the parent's output, which may be JSON.
      stdio: ['ignore', 2, 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    },
  );
  const heapFull =
    options.heapFull ?? `${basename(path)}: out of memory: its JavaScript heap is full`;
  const said = passOn(child.stderr as Readable, heapFull);
  let exited: string | undefined;
  const listeners: ((reason: string) => void)[] = [];
  const onExit = (reason: string): void => {
    if (exited !== undefined) return;
    exited = reason;
    for (const listener of listeners.splice(0)) listener(reason);
  };
  child.once('exit', (code, signal) => {
    if (signal === null) onExit(`exit code ${code}`);
    else if (signal !== 'SIGABRT') onExit(`signal ${signal}`);
    else {
      // What it said last may still be on its way.
      const late = setTimeout(onExit, lastWordsMs, `signal ${signal}`);
      void said.then((isFull) => {
        clearTimeout(late);
        onExit(isFull ? `its heap is full (${signal})` : `signal ${signal}`);
      });
    }
  });
  child.once('error', (error) => onExit(error.message));
  const { pid } = child;
  if (pid === undefined) {
    throw new DaybookError('IO_FAILED', `cannot start ${path}`, { details: { path } });
  }
  if (options.niceness !== undefined) giveWay(pid, options.niceness);
  return {
    pid,
    connection: framedConnection(socketOf(child)),
    residentBytes: () => (exited === undefined ? residentBytes(pid) : undefined),
    cpuMs: () => (exited === undefined ? cpuMs(pid) : undefined),
    kill: () => {
      child.kill('SIGKILL');
    },
    onExit: (listener) => {
      if (exited === undefined) listeners.push(listener);
      else setImmediate(listener, exited);
    },
  };
}

/**
 * Passes on what a child prints, up to where V8 says at length that the heap is full. Its own children
 * have pipes of their own, so it is this child's heap.
 *
 * @returns when it says no more: whether its heap is full.
 */
function passOn(from: Readable, heapFull: string): Promise<boolean> {
  let rest = '';
  let isFull = false;
  const print = (line: string): void => {
    if (isFull) return;
    isFull = line.startsWith('<--- Last few GCs --->');
    if (line !== '') process.stderr.write(`${isFull ? heapFull : line}\n`);
  };
  from.setEncoding('utf8');
  from.on('data', (piece: string) => {
    const lines = (rest + piece).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) print(line);
    if (rest.length > lineCharactersMax) {
      print(rest);
      rest = '';
    }
  });
  return new Promise((resolve) => {
    from.on('end', () => {
      print(rest);
      resolve(isFull);
    });
  });
}

function giveWay(pid: number, niceness: number): void {
  try {
    setPriority(pid, niceness);
  } catch {
    // It has ended already, which its exit tells; or the platform knows no priorities.
  }
}

function socketOf(child: ChildProcess): Socket {
  return child.stdio[connectionFd] as unknown as Socket;
}

function typescriptLoader(): string {
  return pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
}

function residentBytes(pid: number): number | undefined {
  const kibibytes = /^RssAnon:\s+(\d+) kB/m.exec(procFile(pid, 'status'))?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

function cpuMs(pid: number): number | undefined {
  const stat = procFile(pid, 'stat');
  // The second field is the program's name in parentheses and may itself hold blanks.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks * clockTickMs : undefined;
}

function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}
