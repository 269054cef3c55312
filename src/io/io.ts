/*
 * The only door to clock, timers, randomness, disk, network and processes (invariant I8). Production
 * code takes an `Io`; `real.ts` is the machine, the simulator brings another.
 */

/** Everything outside our own memory. */
export interface Io {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Randomness;
  readonly disk: Disk;
  readonly network: Network;
  readonly processes: Processes;
}

/** Two clocks: one for what people read, one for measuring. */
export interface Clock {
  /** Wall-clock time, milliseconds since 1970; may jump. */
  nowMs(): number;
  /** Milliseconds from an arbitrary start; never goes back. */
  monotonicMs(): number;
}

/** Calls that come later. */
export interface Timers {
  /**
   * Calls back once after `delayMs`; a pending timer does not keep the process alive unless
   * `keepAlive` is set.
   */
  after(delayMs: number, callback: () => void, options?: { keepAlive?: boolean }): Timer;
  /** Calls back after the events that are already waiting (`setImmediate`). */
  soon(callback: () => void): void;
}

/** A call that has not come yet. */
export interface Timer {
  cancel(): void;
}

/** Chance. */
export interface Randomness {
  /** Unpredictable bytes. */
  bytes(count: number): Buffer;
  /** A number in [0, 1): for jitter, not for secrets. */
  number(): number;
}

/** Paths are absolute. Every method throws `IO_FAILED` or `DISK_FULL` with the cause. */
export interface Disk {
  /** Opens for reading and writing; creates the file when `create` is set. `NOT_FOUND` otherwise. */
  open(path: string, options?: { create?: boolean }): Promise<DiskFile>;
  /** Names in a directory, sorted; empty when the directory does not exist. */
  list(directory: string): Promise<string[]>;
  /** Bytes that may still be written to the device that holds the directory. */
  availableBytes(directory: string): Promise<number>;
  /** Creates the directory and its parents; durable. */
  makeDirectory(directory: string): Promise<void>;
  /** The whole file, or `undefined` when it does not exist. */
  readFile(path: string): Promise<Buffer | undefined>;
  /**
   * Replaces a file as a whole: after a crash either the old or the new content is there.
   * `ownerOnly` keeps it from other users of the machine (mode 0600): for private keys.
   */
  writeFile(path: string, bytes: Uint8Array, options?: { ownerOnly?: boolean }): Promise<void>;
  /** Renames durably (the directory is synced). */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a directory with all in it; nothing happens when it does not exist. */
  remove(path: string): Promise<void>;
  /**
   * Takes a directory for this process alone; freed when the process ends, however it ends.
   *
   * @throws {DaybookError} `LOG_LOCKED`
   */
  lock(directory: string): Promise<{ release(): Promise<void> }>;
}

/** An open file; errors as in {@link Disk}. */
export interface DiskFile {
  size(): Promise<number>;
  /** Fills `target` from `offset`; returns the bytes read, fewer at the end of the file. */
  read(target: Uint8Array, offset: number): Promise<number>;
  /** Blocking {@link DiskFile.read}, for point reads that are nearly always in the page cache. */
  readSync(target: Uint8Array, offset: number): number;
  /** Writes all parts one after the other, starting at `offset`. Not durable before `sync`. */
  write(parts: readonly Uint8Array[], offset: number): Promise<void>;
  /** Makes all earlier writes durable (fdatasync). After a failure the file must not be trusted. */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
}

/** Framed, ordered, reliable-until-closed messages. Addresses: `host:port` or `unix:/path`. */
export interface Network {
  /** @throws {DaybookError} `PEER_UNREACHABLE` */
  connect(address: string): Promise<Connection>;
  /** Resolves once it listens; `address` of the result has the real port. */
  listen(address: string, onConnection: (connection: Connection) => void): Promise<Listener>;
}

/** Takes connections until it is closed; those that are open stay. */
export interface Listener {
  readonly address: string;
  close(): Promise<void>;
}

/**
 * One peer. Frames sent in the same turn of the event loop leave in one write. A frame longer than
 * `frameBytesMax` closes the connection.
 */
export interface Connection {
  /**
   * Sends one frame made of the parts, which are copied; returns false when the send buffer is over
   * its mark. After the connection closed nothing is sent.
   *
   * @throws {DaybookError} `LIMIT_EXCEEDED` (`frameBytesMax`)
   */
  send(parts: readonly Uint8Array[]): boolean;
  /**
   * The receiver of frames, in order. A frame is a view that stays valid, but keeps all the bytes
   * that arrived with it in memory.
   */
  onFrame(listener: (frame: Buffer) => void): void;
  /** Called once. */
  onClose(listener: (cause: Error | undefined) => void): void;
  /** Called when the send buffer has emptied after `send` returned false. */
  onDrain(listener: () => void): void;
  close(): void;
}

/** Programs of ours beside this one. */
export interface Processes {
  /** Starts a Node program of ours (a module URL) with a {@link Connection} to it. */
  spawn(module: URL, options: SpawnOptions): Child;
}

/** How {@link Processes.spawn} starts a program. */
export interface SpawnOptions {
  readonly args?: readonly string[];
  /** Node flags, e.g. `--max-old-space-size=256`. */
  readonly nodeOptions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Stands on stderr for the pages that V8 writes when the heap is full. Default: that it is. */
  readonly heapFull?: string;
  /** 0 to 19: how far it gives way to other processes for the CPU (nice value). Default 0. */
  readonly niceness?: number;
}

/** A program that was started. */
export interface Child {
  readonly pid: number;
  readonly connection: Connection;
  /** Resident memory of its own (no mapped files) in bytes, or `undefined` when the platform does not tell. */
  residentBytes(): number | undefined;
  /** CPU time used so far, milliseconds, or `undefined` when the platform does not tell. */
  cpuMs(): number | undefined;
  /** Ends it at once (SIGKILL). */
  kill(): void;
  /** Called once, with a readable reason. */
  onExit(listener: (reason: string) => void): void;
}
