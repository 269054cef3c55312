import { isDaybookError } from '../../base/index.ts';
import type {
  CallOutcome,
  ContractCall,
  ContractRuntime,
  StateAccess,
} from '../../contract/index.ts';
import type { Child, Connection, Io, Processes } from '../../io/index.ts';
import { asAddress } from '../../model/index.ts';
import { type MemoryStore, type StateReader, updatesUnderWay } from '../../state/index.ts';
import { serveContracts } from '../contract-process.ts';

/** Contracts as plain functions: `contract:function`. */
export type TestContracts = Readonly<
  Record<string, (access: StateAccess, args: readonly string[]) => Promise<string>>
>;

/**
 * A `Processes` whose children run in this process: what is tested is the executor and the engine,
 * not the operating system.
 */
export function inlineProcesses(
  io: Io,
  store: MemoryStore,
  contracts: TestContracts | (() => ContractRuntime),
): Processes & { readonly children: Child[] } {
  const children: Child[] = [];
  return {
    children,
    spawn: () => {
      const [ours, theirs] = connectionPair(io);
      const exits: ((reason: string) => void)[] = [];
      let dead = false;
      io.timers.soon(() => {
        serveContracts({
          io,
          connection: theirs,
          openReader: () => frozenReader(store),
          createRuntime: () =>
            typeof contracts === 'function' ? contracts() : plainRuntime(contracts),
        });
      });
      const child: Child = {
        pid: 0,
        connection: ours,
        residentBytes: () => undefined,
        cpuMs: () => undefined,
        kill: () => {
          if (dead) return;
          dead = true;
          ours.close();
          theirs.close();
          io.timers.soon(() => {
            for (const listener of exits) listener('signal SIGKILL');
          });
        },
        onExit: (listener) => exits.push(listener),
      };
      children.push(child);
      return child;
    },
  };
}

/** Two ends that deliver frames in later turns of the event loop, in order. */
function connectionPair(io: Io): [Connection, Connection] {
  const ends: {
    listener: ((frame: Buffer) => void) | undefined;
    close: (() => void) | undefined;
    waiting: Buffer[];
  }[] = [
    { listener: undefined, close: undefined, waiting: [] },
    { listener: undefined, close: undefined, waiting: [] },
  ];
  let closed = false;
  const end = (own: number): Connection => {
    const here = ends[own] as (typeof ends)[number];
    const there = ends[1 - own] as (typeof ends)[number];
    return {
      send: (parts) => {
        const frame = Buffer.concat(parts);
        io.timers.soon(() => {
          if (closed) return;
          if (there.listener === undefined) there.waiting.push(frame);
          else there.listener(frame);
        });
        return true;
      },
      onFrame: (listener) => {
        here.listener = listener;
        for (const frame of here.waiting.splice(0)) listener(frame);
      },
      onClose: (listener) => {
        here.close = () => listener(undefined);
      },
      onDrain: () => undefined,
      close: () => {
        if (closed) return;
        closed = true;
        for (const { close } of ends) close?.();
      },
    };
  };
  return [end(0), end(1)];
}

/** Shows the store as it was at the last refresh, as LMDB does. */
export function frozenReader(store: MemoryStore): StateReader {
  let view = store.frozen();
  return {
    get: (key) => view.get(key),
    version: (key) => view.version(key),
    range: (start, end, limit) => view.range(start, end, limit),
    nextAddress: () => view.meta?.nextAddress ?? asAddress(0),
    updating: () => updatesUnderWay(view.meta?.bulkUpdates),
    refresh: () => {
      view = store.frozen();
    },
    close: () => undefined,
  };
}

function plainRuntime(contracts: TestContracts): ContractRuntime {
  return {
    install: () => undefined,
    options: () => undefined,
    call: async (call: ContractCall, access: StateAccess): Promise<CallOutcome> => {
      const run = contracts[`${call.contract}:${call.functionName}`];
      if (run === undefined) {
        return { ok: false, code: 'CONTRACT_FUNCTION_UNKNOWN', message: call.functionName };
      }
      try {
        const result = await run(access, call.args);
        return { ok: true, result, event: undefined };
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        const code = isDaybookError(error) ? error.code : 'CONTRACT_REJECTED';
        return { ok: false, code, message };
      }
    },
  };
}
