import { ByteReader, ByteWriter, DaybookError, type ErrorJson } from '../../base/index.ts';
import type { RpcPeer } from '../../io/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import type { LogEntry, SharedLog, Token } from '../shared-log.ts';
import {
  channels,
  entryCost,
  methods,
  numberBytes,
  partKinds,
  readEntries,
  readNumber,
} from './messages.ts';

/**
 * The log that the other end of a connection serves. When the connection closes, everything fails
 * with `PEER_UNREACHABLE` (a write may stand all the same); connecting again is the caller's part.
 * `close` leaves the connection open: others may use it.
 */
export function remoteLog(peer: RpcPeer): SharedLog {
  return new RemoteLog(peer);
}

class RemoteLog implements SharedLog {
  readonly #peer: RpcPeer;
  readonly #streams = new Map<number, IncomingStream>();
  #nextStream = 1;
  #closed: DaybookError | undefined;

  constructor(peer: RpcPeer) {
    this.#peer = peer;
    peer.onPush(channels.entries, (payload) => this.#receive(payload));
    peer.onClose((cause) => this.#end(cause));
  }

  async tail(): Promise<Address> {
    return asAddress(await this.#number(methods.tail));
  }

  async epoch(): Promise<number> {
    return await this.#number(methods.epoch);
  }

  async start(): Promise<Address> {
    return asAddress(await this.#number(methods.start));
  }

  async seal(epoch: number): Promise<Address> {
    return asAddress(readNumber(await this.#call(methods.seal, [numberBytes(epoch)])));
  }

  async write({ epoch, address }: Token, bytes: Uint8Array): Promise<void> {
    const header = new ByteWriter(16).u64(epoch).u64(address).view();
    await this.#call(methods.write, [header, bytes]);
  }

  async fill(address: Address): Promise<void> {
    await this.#call(methods.fill, [numberBytes(address)]);
  }

  async trim(before: Address): Promise<void> {
    await this.#call(methods.trim, [numberBytes(before)]);
  }

  async read(address: Address): Promise<LogEntry> {
    const payload = await this.#call(methods.read, [numberBytes(address)]);
    const [entry] = readEntries(new ByteReader(payload, 'log entry'));
    if (entry === undefined) throw new DaybookError('MALFORMED', 'an answer without an entry');
    return entry;
  }

  async *follow(from: Address, signal?: AbortSignal): AsyncGenerator<readonly LogEntry[]> {
    if (this.#closed !== undefined) throw this.#closed;
    if (signal?.aborted === true) return;
    const id = this.#nextStream;
    this.#nextStream += 1;
    const stream = new IncomingStream();
    this.#streams.set(id, stream);
    const stop = (): void => stream.end(undefined);
    signal?.addEventListener('abort', stop);
    try {
      await this.#call(methods.follow, [new ByteWriter(12).u32(id).u64(from).view()]);
      for (;;) {
        const run = await stream.next();
        if (run === undefined) return;
        yield run;
        let bytes = 0;
        for (const entry of run) bytes += entryCost(entry);
        this.#consumed(id, bytes);
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      this.#streams.delete(id);
      this.#consumed(id, 0);
    }
  }

  async close(): Promise<void> {
    this.#end(new DaybookError('CLOSED', 'the log is closed'));
  }

  #end(cause: DaybookError): void {
    this.#closed ??= cause;
    for (const stream of this.#streams.values()) stream.end(this.#closed);
  }

  async #number(method: number): Promise<number> {
    return readNumber(await this.#call(method, []));
  }

  async #call(method: number, payload: readonly Uint8Array[]): Promise<Buffer> {
    if (this.#closed !== undefined) throw this.#closed;
    return await this.#peer.call(method, payload);
  }

  #consumed(id: number, bytes: number): void {
    this.#peer.push(channels.consumed, [new ByteWriter(8).u32(id).u32(bytes).view()]);
  }

  #receive(payload: Buffer): void {
    const reader = new ByteReader(payload, 'followed entries');
    const stream = this.#streams.get(reader.u32());
    if (stream === undefined) return;
    if (reader.u8() === partKinds.entries) stream.push(readEntries(reader));
    else stream.end(readError(reader));
  }
}

function readError(reader: ByteReader): DaybookError {
  try {
    return DaybookError.fromJSON(JSON.parse(reader.raw(reader.remaining).toString()) as ErrorJson);
  } catch {
    return reader.fail('error of a stream');
  }
}

/** Runs that have arrived and wait for the follower; the log's window bounds their bytes. */
class IncomingStream {
  readonly #runs: (readonly LogEntry[])[] = [];
  #ended = false;
  #error: DaybookError | undefined;
  #wake: (() => void) | undefined;

  push(run: readonly LogEntry[]): void {
    this.#runs.push(run);
    this.#wake?.();
  }

  /** Quietly without an error; with one, what has arrived before is still given out. */
  end(error: DaybookError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (error === undefined) this.#runs.length = 0;
    this.#wake?.();
  }

  async next(): Promise<readonly LogEntry[] | undefined> {
    for (;;) {
      const run = this.#runs.shift();
      if (run !== undefined) return run;
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
