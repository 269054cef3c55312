import { SandboxError } from './errors.ts';

/** The guest's side of one call. */
export interface GuestCall {
  readonly id: number;
  readonly timestampMs: number;
  /** Bytes of buffers allocated so far. */
  bufferBytes: number;
  /** False once it has ended; what it left running can do nothing more. */
  open: boolean;
  /** Set when a limit was passed: the call fails whatever the contract catches. */
  fatal: SandboxError | undefined;
}

/** What contracts may allocate while they are loaded. */
const loading: GuestCall = newCall(0, 0);

/** The call whose code runs now. */
let active: GuestCall = loading;
let bufferBytesMax = Number.MAX_SAFE_INTEGER;

/** A call that is about to begin; `timestampMs` is its transaction's. */
export function newCall(id: number, timestampMs: number): GuestCall {
  return { id, timestampMs, bufferBytes: 0, open: true, fatal: undefined };
}

/** The host announces with every start and resume whose code comes next. */
export function activate(call: GuestCall): void {
  active = call;
}

/** The time as contracts see it. */
export function nowMs(): number {
  return active.timestampMs;
}

/** Number of the call whose code runs now; 0 while contracts are loaded. */
export function activeCallId(): number {
  return active.id;
}

/** How many bytes of buffers each call may allocate. */
export function setBufferBytesMax(bytes: number): void {
  bufferBytesMax = bytes;
}

/** Counts an allocation before it is made. Counting what is freed would not be deterministic. */
export function countBufferBytes(bytes: number): void {
  // NaN and negative numbers are left to the constructor that follows.
  if (bytes > 0) active.bufferBytes += bytes;
  if (active.bufferBytes <= bufferBytesMax) return;
  active.fatal ??= new SandboxError(
    'CONTRACT_MEMORY',
    `contractBufferBytesMax is ${bufferBytesMax}: the call allocated more than that in buffers`,
  );
  throw active.fatal;
}
