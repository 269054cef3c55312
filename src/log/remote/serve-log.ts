import { ByteReader, DaybookError, limits, toDaybookError } from '../../base/index.ts';
import type { RpcPeer } from '../../io/index.ts';
import { asAddress } from '../../model/index.ts';
import type { LogEntry, SharedLog } from '../shared-log.ts';
import {
  channels,
  entryCost,
  entryParts,
  methods,
  numberBytes,
  partKinds,
  readNumber,
  streamWindowBytes,
} from './messages.ts';

/** Offers a log to the other end of a connection. Follow streams end with the connection. */
export function serveLog(log: SharedLog, peer: RpcPeer): void {
  const streams = new Map<number, Stream>();
  peer.handle(methods.tail, async () => [numberBytes(await log.tail())]);
  peer.handle(methods.epoch, async () => [numberBytes(await log.epoch())]);
  peer.handle(methods.start, async () => [numberBytes(await log.start())]);
  peer.handle(methods.seal, async (payload) => [numberBytes(await log.seal(readNumber(payload)))]);
  peer.handle(methods.read, async (payload) =>
    entryParts([await log.read(asAddress(readNumber(payload)))]),
  );
  peer.handle(methods.fill, async (payload) => {
    await log.fill(asAddress(readNumber(payload)));
    return [];
  });
  peer.handle(methods.trim, async (payload) => {
    await log.trim(asAddress(readNumber(payload)));
    return [];
  });
  peer.handle(methods.write, async (payload) => {
    const reader = new ByteReader(payload, 'log write');
    const token = { epoch: reader.u64(), address: asAddress(reader.u64()) };
    await log.write(token, reader.raw(reader.remaining));
    return [];
  });
  peer.handle(methods.follow, (payload) => {
    const reader = new ByteReader(payload, 'log follow');
    const id = reader.u32();
    const from = asAddress(reader.u64());
    if (streams.size >= limits.rpcStreamsMax) {
      throw new DaybookError('OVERLOADED', 'too many streams on one connection', {
        details: { limit: 'rpcStreamsMax', max: limits.rpcStreamsMax },
      });
    }
    const stream = new Stream(id, peer);
    streams.set(id, stream);
    void stream.run(log.follow(from, stream.signal)).finally(() => streams.delete(id));
    return [];
  });
  peer.onPush(channels.consumed, (payload) => {
    const reader = new ByteReader(payload, 'log consumed');
    const stream = streams.get(reader.u32());
    const bytes = reader.u32();
    if (bytes === 0) stream?.stop();
    else stream?.consumed(bytes);
  });
  peer.onClose(() => {
    for (const stream of streams.values()) stream.stop();
  });
}

/** One follower: sends until `streamWindowBytes` are under way, and goes on as they are consumed. */
class Stream {
  readonly #id: number;
  readonly #peer: RpcPeer;
  readonly #abort = new AbortController();
  #underWayBytes = 0;
  #resume: (() => void) | undefined;

  constructor(id: number, peer: RpcPeer) {
    this.#id = id;
    this.#peer = peer;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  stop(): void {
    this.#abort.abort();
    this.#resume?.();
  }

  consumed(bytes: number): void {
    this.#underWayBytes -= bytes;
    this.#resume?.();
  }

  async run(runs: AsyncIterable<readonly LogEntry[]>): Promise<void> {
    try {
      for await (const run of runs) {
        for (let sent = 0; sent < run.length && !this.signal.aborted; ) {
          if (this.#underWayBytes >= streamWindowBytes) await this.#room();
          else sent += this.#send(run, sent);
        }
      }
    } catch (error) {
      const json = JSON.stringify(toDaybookError(error).toJSON());
      this.#peer.push(channels.entries, [this.#header(partKinds.error), Buffer.from(json)]);
    }
  }

  /** Sends the entries from `first` on that make about one run; returns their count. */
  #send(run: readonly LogEntry[], first: number): number {
    let bytes = 0;
    let end = first;
    for (; end < run.length && bytes < limits.logRunBytesMax; end += 1) {
      bytes += entryCost(run[end] as LogEntry);
    }
    this.#underWayBytes += bytes;
    this.#peer.push(channels.entries, [
      this.#header(partKinds.entries),
      ...entryParts(run.slice(first, end)),
    ]);
    return end - first;
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#resume = () => {
        this.#resume = undefined;
        resolve();
      };
    });
  }

  #header(kind: number): Buffer {
    const header = Buffer.allocUnsafe(5);
    header.writeUInt32BE(this.#id, 0);
    header[4] = kind;
    return header;
  }
}
