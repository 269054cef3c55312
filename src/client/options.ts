import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { type Signer, type SigningMode, signerFromPem } from '../model/index.ts';
import type { Transport } from './transport.ts';

/** An identity as it lies on disk. */
export interface IdentityFiles {
  readonly mspId: string;
  /** Path of the certificate, PEM. */
  readonly certificateFile: string;
  /** Path of the private key, PEM; ECDSA P-256. */
  readonly privateKeyFile: string;
}

/** See `connect`. */
export interface ConnectOptions {
  /** Addresses of gateways, `http://host:port`; any number of nodes of the same network. */
  readonly gateways: readonly string[];
  readonly channel: string;
  /** Who signs: this, or `identity`. */
  readonly signer?: Signer;
  readonly identity?: IdentityFiles;
  /**
   * `batch` (default): one signature for each batch. `single`: every transaction is executed and
   * endorsed first, then signed by itself, so that a Fabric peer finds it valid; see
   * `docs/blocks.md`. Up to `batchesPerGateway` calls are under way at each gateway then.
   */
  readonly signing?: SigningMode;
  /** Most calls in a batch. Default 100. */
  readonly batchCount?: number;
  /** Longest wait for a batch to fill while others are under way, milliseconds. Default 100. */
  readonly batchDelayMs?: number;
  /** Batches under way to each gateway. Default 16. */
  readonly batchesPerGateway?: number;
  /** How long a call is tried, milliseconds. Default 30,000. */
  readonly deadlineMs?: number;
  /** How long one gateway may take before another is tried, milliseconds. Default 10,000. */
  readonly attemptMs?: number;
  /** Calls under way. Default `limits.clientTransactionsInFlightMax`. */
  readonly transactionsInFlightMax?: number;
  /** What a call does when that many are under way. Default `wait`. */
  readonly whenFull?: 'wait' | 'reject';
  /** HTTPS: trust roots, and a certificate of the client if the gateways ask for one; PEM. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** Default: the machine. */
  readonly io?: Pick<Io, 'clock' | 'timers' | 'random' | 'disk'>;
  /** Default: HTTP. */
  readonly transport?: Transport;
}

/** Options with everything filled in. */
export interface Settings {
  readonly gateways: readonly string[];
  readonly channel: string;
  readonly signer: Signer;
  readonly signing: SigningMode;
  readonly batchCount: number;
  readonly batchDelayMs: number;
  readonly batchesPerGateway: number;
  readonly deadlineMs: number;
  readonly attemptMs: number;
  readonly transactionsInFlightMax: number;
  readonly whenFull: 'wait' | 'reject';
}

/**
 * Checks that every number is a positive integer.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function checkNumbers(values: Readonly<Record<string, number>>): void {
  for (const [what, value] of Object.entries(values)) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw new DaybookError('INVALID_ARGUMENT', `${what} is not a positive integer`, {
      details: { what, value },
    });
  }
}

/**
 * Checks, for programs without types, that a value is one of a few.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function checkChoice<T extends string>(what: string, value: T, choices: readonly T[]): T {
  if (choices.includes(value)) return value;
  throw new DaybookError('INVALID_ARGUMENT', `${what} is one of ${choices.join(', ')}`, {
    details: { what, value },
  });
}

/**
 * The address of a gateway without its path.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function originOf(gateway: string): string {
  const url = URL.canParse(gateway) ? new URL(gateway) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.origin;
  throw new DaybookError('INVALID_ARGUMENT', `not http://host:port: ${gateway}`, {
    details: { what: 'gateways', value: gateway },
  });
}

/**
 * Loads a signer from its files.
 *
 * @throws {DaybookError} `NOT_FOUND` naming the file, `INVALID_ARGUMENT`
 */
export async function loadSigner(disk: Io['disk'], files: IdentityFiles): Promise<Signer> {
  const read = async (file: string): Promise<string> => {
    const bytes = await disk.readFile(file);
    if (bytes !== undefined) return bytes.toString('utf8');
    throw new DaybookError('NOT_FOUND', `no file ${file}`, { details: { file } });
  };
  const certificate = await read(files.certificateFile);
  return signerFromPem({ mspId: files.mspId, certificate }, await read(files.privateKeyFile));
}
