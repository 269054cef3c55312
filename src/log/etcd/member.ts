import type { CallName, Calls } from './etcd-api.ts';

/** What one member is asked with. */
export interface MemberCallOptions {
  /** Of etcd's own access control. */
  readonly token: string | undefined;
  readonly timeoutMs: number;
}

/** A stream of messages to and from one member; ends once, by `error` or `end`. */
export interface MemberStream {
  /** `error` gives an `Error`, `data` a message as etcd's protocol names it. */
  on(event: 'data' | 'error' | 'end', listener: (argument: never) => void): void;
  write(message: object): void;
  cancel(): void;
}

/** The connection to one member of an etcd cluster. */
export interface Member {
  /** `host:port`. */
  readonly endpoint: string;
  /**
   * One unary call, one attempt.
   *
   * @throws an error with gRPC's status as `code` and etcd's text as `details`: see `verdictOf`.
   */
  call<Name extends CallName>(
    name: Name,
    request: Calls[Name]['request'],
    options: MemberCallOptions,
  ): Promise<Calls[Name]['response']>;
  /** Ends with an error when the member loses its leader. */
  stream(method: 'watch' | 'leaseKeepAlive', token: string | undefined): MemberStream;
  /** Ends all calls and streams. */
  close(): void;
}

/** Makes a {@link Member}: over gRPC, or a model of etcd in its place. */
export type ConnectMember = (endpoint: string) => Member;
