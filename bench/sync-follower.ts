import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Begins to follow; the first answer is `{}`. */
export interface StartOrder {
  readonly type: 'start';
  readonly name: string;
  readonly database: string;
  readonly gateways: readonly string[];
  readonly channel: string;
}

/** What the bench tells a follower's process. Every order has one answer, an object. */
export type Order =
  | StartOrder
  /** Answers with {@link Reached} once everything before the position is in the database. */
  | { readonly type: 'until'; readonly position: number }
  /** Ends following; the answer is {@link Applied}. */
  | { readonly type: 'stop' };

/** Answer to `until`. */
export interface Reached {
  /** Since the last `start`. */
  readonly elapsedMs: number;
}

/** Answer to `stop`. */
export interface Applied {
  readonly changes: number;
  /** From the time in the log's entry, which is before it is durable, to the end of the commit. */
  readonly lagsMs: readonly number[];
}

/** A follower in a process of its own. */
export interface FollowerProcess {
  start(order: Omit<StartOrder, 'type'>): Promise<void>;
  until(position: number): Promise<Reached>;
  stop(): Promise<Applied>;
  end(): void;
}

/** Starts the process; it waits for orders. */
export function followerProcess(): FollowerProcess {
  const source = import.meta.url.endsWith('.ts');
  const child = fork(
    fileURLToPath(new URL(`./sync-follower-main.${source ? 'ts' : 'js'}`, import.meta.url)),
    { execArgv: source ? ['--import', 'tsx'] : [] },
  );
  const waiting: ((answer: object) => void)[] = [];
  let failed: (error: Error) => void = () => undefined;
  const failure = new Promise<never>((_resolve, reject) => {
    failed = reject;
  });
  failure.catch(() => undefined);
  child.on('message', (answer: object) => waiting.shift()?.(answer));
  child.on('exit', (code) => failed(new Error(`the follower's process ended with ${code}`)));
  const ask = (order: Order): Promise<object> => {
    child.send(order);
    return Promise.race([new Promise<object>((resolve) => waiting.push(resolve)), failure]);
  };
  return {
    start: async (order) => {
      await ask({ type: 'start', ...order });
    },
    until: (position) => ask({ type: 'until', position }) as Promise<Reached>,
    stop: () => ask({ type: 'stop' }) as Promise<Applied>,
    end: () => {
      child.kill();
    },
  };
}
