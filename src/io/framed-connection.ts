import type { Socket } from 'node:net';
import { DaybookError, limits } from '../base/index.ts';
import type { Connection } from './io.ts';

const outgoingChunkBytes = 64 * 1024;
const closeGraceMs = 1_000;

/**
 * A {@link Connection} over any stream socket: each frame is a u32 length and its bytes. Frames sent
 * in one turn of the event loop are copied into shared chunks and leave in one write.
 */
export function framedConnection(socket: Socket): Connection {
  return new FramedConnection(socket);
}

class FramedConnection implements Connection {
  readonly #socket: Socket;
  /** Bump allocator for outgoing bytes; written chunks are never touched again. */
  #chunk: Buffer = Buffer.allocUnsafeSlow(outgoingChunkBytes);
  #chunkStart = 0;
  #chunkEnd = 0;
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  #flushing = false;
  #overMark = false;
  #closed = false;
  #cause: Error | undefined;
  #gone = false;
  readonly #parser: FrameParser;
  #drainListener: (() => void) | undefined;
  #closeListener: ((cause: Error | undefined) => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#parser = new FrameParser(() => this.#closed);
    socket.setNoDelay(true);
    socket.on('drain', () => this.#onDrain());
    socket.on('error', (error) => {
      this.#cause ??= error;
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#gone = true;
      this.#unsent = [];
      this.#closeListener?.(this.#cause);
    });
  }

  send(parts: readonly Uint8Array[]): boolean {
    if (this.#closed) return false;
    let length = 0;
    for (const part of parts) length += part.length;
    if (length > limits.frameBytesMax) {
      throw new DaybookError('LIMIT_EXCEEDED', `a frame of ${length} bytes`, {
        details: { limit: 'frameBytesMax', max: limits.frameBytesMax, actual: length },
      });
    }
    const frameBytes = 4 + length;
    if (frameBytes > this.#chunk.length - this.#chunkEnd) this.#nextChunk(frameBytes);
    const chunk = this.#chunk;
    let at = this.#chunkEnd;
    chunk[at] = length >>> 24;
    chunk[at + 1] = length >>> 16;
    chunk[at + 2] = length >>> 8;
    chunk[at + 3] = length;
    at += 4;
    for (const part of parts) {
      chunk.set(part, at);
      at += part.length;
    }
    this.#chunkEnd = at;
    this.#unsentBytes += frameBytes;
    if (!this.#flushing) {
      this.#flushing = true;
      setImmediate(() => this.#flush());
    }
    const waiting = this.#unsentBytes + this.#socket.writableLength;
    if (waiting <= limits.sendBufferBytesMark) return true;
    this.#overMark = true;
    if (waiting > limits.sendBufferBytesMax) this.#fail('sendBufferBytesMax', waiting);
    return false;
  }

  onFrame(listener: (frame: Buffer) => void): void {
    this.#parser.listener = listener;
    this.#socket.on('data', (chunk: Buffer) => {
      const tooLong = this.#parser.push(chunk);
      if (tooLong !== undefined) this.#fail('frameBytesMax', tooLong);
    });
  }

  onClose(listener: (cause: Error | undefined) => void): void {
    this.#closeListener = listener;
    if (this.#gone) setImmediate(() => listener(this.#cause));
  }

  onDrain(listener: () => void): void {
    this.#drainListener = listener;
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#socket.destroySoon();
    setTimeout(() => this.#socket.destroy(), closeGraceMs).unref();
    // A socket nobody reads from would never notice that its peer is gone.
    this.#socket.resume();
  }

  #nextChunk(frameBytes: number): void {
    this.#cut();
    this.#chunk = Buffer.allocUnsafeSlow(Math.max(outgoingChunkBytes, frameBytes));
    this.#chunkStart = 0;
    this.#chunkEnd = 0;
  }

  #cut(): void {
    if (this.#chunkEnd === this.#chunkStart) return;
    this.#unsent.push(this.#chunk.subarray(this.#chunkStart, this.#chunkEnd));
    this.#chunkStart = this.#chunkEnd;
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#closed) return;
    this.#cut();
    const unsent = this.#unsent;
    if (unsent.length === 0) return;
    this.#unsent = [];
    this.#unsentBytes = 0;
    const [first] = unsent;
    if (unsent.length === 1 && first !== undefined) {
      this.#socket.write(first);
    } else {
      this.#socket.cork();
      for (const part of unsent) this.#socket.write(part);
      this.#socket.uncork();
    }
    // A short write may have gone out at once, and then no 'drain' event follows.
    if (this.#overMark && this.#socket.writableLength === 0) setImmediate(() => this.#onDrain());
  }

  #onDrain(): void {
    if (!this.#overMark || this.#closed || this.#socket.writableLength > 0) return;
    this.#overMark = false;
    this.#drainListener?.();
  }

  #fail(limit: 'sendBufferBytesMax' | 'frameBytesMax', actual: number): void {
    this.#cause ??= new DaybookError(
      'LIMIT_EXCEEDED',
      `${limit} of a connection: ${actual} bytes`,
      {
        details: { limit, max: limits[limit], actual },
      },
    );
    this.#closed = true;
    this.#socket.destroy();
  }
}

/** Cuts a byte stream into frames: views of the chunk where a frame lies in one, else one copy. */
class FrameParser {
  listener: ((frame: Buffer) => void) | undefined;
  readonly #stopped: () => boolean;
  readonly #header = Buffer.alloc(4);
  #headerBytes = 0;
  #body: Buffer | undefined;
  #bodyBytes = 0;

  constructor(stopped: () => boolean) {
    this.#stopped = stopped;
  }

  /** Returns the length of a frame that is too long, else `undefined`. */
  push(chunk: Buffer): number | undefined {
    let at = 0;
    while (at < chunk.length && !this.#stopped()) {
      if (this.#body !== undefined) {
        at = this.#continueBody(this.#body, chunk, at);
        continue;
      }
      let length: number;
      if (this.#headerBytes === 0 && chunk.length - at >= 4) {
        length = chunk.readUInt32BE(at);
        at += 4;
      } else {
        const taken = chunk.copy(this.#header, this.#headerBytes, at, at + 4 - this.#headerBytes);
        at += taken;
        this.#headerBytes += taken;
        if (this.#headerBytes < 4) return undefined;
        this.#headerBytes = 0;
        length = this.#header.readUInt32BE(0);
      }
      if (length > limits.frameBytesMax) return length;
      if (chunk.length - at >= length) {
        const frame = chunk.subarray(at, at + length);
        at += length;
        this.listener?.(frame);
      } else {
        this.#body = Buffer.allocUnsafeSlow(length);
        this.#bodyBytes = 0;
      }
    }
    return undefined;
  }

  #continueBody(body: Buffer, chunk: Buffer, at: number): number {
    const taken = chunk.copy(body, this.#bodyBytes, at);
    this.#bodyBytes += taken;
    if (this.#bodyBytes === body.length) {
      this.#body = undefined;
      this.listener?.(body);
    }
    return at + taken;
  }
}
