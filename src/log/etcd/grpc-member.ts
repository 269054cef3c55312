import {
  Channel,
  type ChannelCredentials,
  type ClientDuplexStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import type { Clock } from '../../io/index.ts';
import {
  type CallName,
  type Calls,
  etcdServices,
  type ServiceName,
  serviceOf,
} from './etcd-api.ts';
import type { ConnectMember, Member, MemberCallOptions, MemberStream } from './member.ts';
import type { TlsOptions } from './options.ts';

type Unary = (
  request: object,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => ClientUnaryCall;
type Stream = (metadata: Metadata) => ClientDuplexStream<object, object>;
type Stub = Record<string, Unary | Stream>;

const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // etcd closes connections that ping more often than every five seconds.
  'grpc.keepalive_time_ms': 6000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.use_local_subchannel_pool': 1,
};

/** Members over gRPC. */
export function grpcMembers(clock: Clock, tls: TlsOptions | undefined): ConnectMember {
  const security = tls
    ? credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.certificate))
    : credentials.createInsecure();
  return (endpoint) => new GrpcMember(endpoint, clock, security);
}

class GrpcMember implements Member {
  readonly endpoint: string;
  readonly #clock: Clock;
  readonly #channels: { calls: Channel; streams: Channel };
  readonly #stubs = new Map<string, Stub>();
  readonly #pending = new Set<{ cancel(): void }>();

  constructor(endpoint: string, clock: Clock, security: ChannelCredentials) {
    const open = (): Channel => new Channel(endpoint, security, channelOptions);
    this.endpoint = endpoint;
    this.#clock = clock;
    this.#channels = { calls: open(), streams: open() };
  }

  call<Name extends CallName>(
    name: Name,
    request: Calls[Name]['request'],
    { token, timeoutMs }: MemberCallOptions,
  ): Promise<Calls[Name]['response']> {
    const stub = this.#stub(serviceOf[name], 'calls');
    const deadline = this.#clock.nowMs() + timeoutMs;
    return new Promise((resolve, reject) => {
      const call = (stub[name] as Unary).call(
        stub,
        request,
        metadataOf(token),
        { deadline },
        (error, response) => {
          this.#pending.delete(call);
          if (error) reject(error);
          else resolve(response as Calls[Name]['response']);
        },
      );
      this.#pending.add(call);
    });
  }

  stream(method: 'watch' | 'leaseKeepAlive', token: string | undefined): MemberStream {
    const metadata = metadataOf(token);
    metadata.set('hasleader', 'true');
    const stub = this.#stub(method === 'watch' ? 'Watch' : 'Lease', 'streams');
    const stream = (stub[method] as Stream).call(stub, metadata);
    const over = (): boolean => this.#pending.delete(stream);
    this.#pending.add(stream);
    stream.once('close', over);
    stream.once('end', over);
    stream.on('error', over);
    return {
      on: (event, listener) => {
        stream.on(event, listener as (argument: unknown) => void);
      },
      write: (message) => {
        stream.write(message);
      },
      cancel: () => stream.cancel(),
    };
  }

  close(): void {
    for (const call of this.#pending) call.cancel();
    this.#channels.calls.close();
    this.#channels.streams.close();
  }

  #stub(service: ServiceName, channel: 'calls' | 'streams'): Stub {
    let stub = this.#stubs.get(`${service}/${channel}`);
    if (stub === undefined) {
      const Service = etcdServices()[service];
      const made = new Service(this.endpoint, credentials.createInsecure(), {
        channelOverride: this.#channels[channel],
      });
      stub = made as unknown as Stub;
      this.#stubs.set(`${service}/${channel}`, stub);
    }
    return stub;
  }
}

function metadataOf(token: string | undefined): Metadata {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('token', token);
  return metadata;
}

function pem(bytes: Uint8Array | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.from(bytes);
}
