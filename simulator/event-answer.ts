import { EventEmitter } from 'node:events';
import type { Connection } from '../src/io/index.ts';
import { SimulationFailure, type World } from './world.ts';

/** What a connection holds for a reader before the stream is told to wait, as a socket does. */
const heldBytesMark = 600;
/**
 * What a stream may still say to a reader that does not read: its last line, or, to one that has just
 * read all, the next event with a heartbeat before it.
 */
const lastLinesMax = 1;

/**
 * What a gateway's stream of events is written to, in the place of an HTTP response. Its reader says
 * what it has taken, which stands for the flow control of TCP.
 */
export class EventAnswer extends EventEmitter {
  readonly #world: World;
  readonly #connection: Connection;
  readonly #kind: number;
  readonly #goesOn: boolean;
  /** Bytes of each piece that is not taken yet, oldest first. */
  readonly #held: number[] = [];
  #beyond = 0;
  destroyed = false;
  writableNeedDrain = false;
  /** Nothing more is written. */
  ended = false;

  /**
   * @param how - `kind`: first byte of each frame that carries a piece; `goesOn`: who writes is not
   *   told to wait.
   */
  constructor(
    world: World,
    connection: Connection,
    how: { readonly kind: number; readonly goesOn: boolean },
  ) {
    super();
    this.#world = world;
    this.#connection = connection;
    this.#kind = how.kind;
    this.#goesOn = how.goesOn;
    connection.onClose(() => this.#close());
  }

  writeHead(): void {
    // The first frame stands for it.
  }

  flushHeaders(): void {
    this.#connection.send([Buffer.of(this.#kind)]);
  }

  write(text: string): boolean {
    if (this.destroyed) return false;
    if (this.writableNeedDrain && ++this.#beyond > lastLinesMax) {
      const what = 'I9: a stream of events goes on for a reader that does not read';
      this.#world.fail(new SimulationFailure('correctness', what));
    }
    const bytes = Buffer.from(text);
    this.#held.push(bytes.length);
    this.#connection.send([Buffer.of(this.#kind), bytes]);
    this.writableNeedDrain ||= this.#held.reduce((sum, held) => sum + held, 0) > heldBytesMark;
    return this.#goesOn || !this.writableNeedDrain;
  }

  /** The reader has taken the oldest piece. */
  taken(): void {
    this.#held.shift();
    if (!this.writableNeedDrain || this.#held.length > 0 || this.destroyed) return;
    this.writableNeedDrain = false;
    this.#beyond = 0;
    this.emit('drain');
  }

  end(): void {
    this.ended = true;
    this.#connection.close();
  }

  destroy(): void {
    this.#connection.close();
    this.#close();
  }

  #close(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.ended = true;
    this.emit('close');
  }
}
