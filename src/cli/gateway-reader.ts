import { DaybookError, type ErrorJson, toDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { type Signer, signReadToken } from '../model/index.ts';

/** Where and as whom to read. */
export interface ReadFrom {
  readonly gateways: readonly string[];
  readonly channel: string;
  readonly signer: Signer;
}

/**
 * Reads a JSON document of the gateways' HTTP API: from the first gateway that answers.
 *
 * @param path - below `/v1/channels/CHANNEL/`.
 * @throws {DaybookError} `PEER_UNREACHABLE` when none answers; what the gateway answered.
 */
export async function readChannel<T>(io: Io, from: ReadFrom, path: string): Promise<T> {
  const token = signReadToken(from.signer, from.channel, io.clock.nowMs());
  let last: DaybookError | undefined;
  for (const gateway of from.gateways) {
    try {
      return await readJson<T>(
        new URL(`/v1/channels/${encodeURIComponent(from.channel)}/${path}`, gateway),
        token,
      );
    } catch (error) {
      last = toDaybookError(error);
      if (last.code !== 'PEER_UNREACHABLE' && last.code !== 'CLOSED') throw last;
    }
  }
  throw last ?? new DaybookError('CONFIG_INVALID', 'no gateway is configured');
}

/**
 * Reads one JSON document.
 *
 * @throws {DaybookError} `PEER_UNREACHABLE`; what the gateway answered.
 */
export async function readJson<T>(url: URL, token?: string, anyStatus = false): Promise<T> {
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(url, {
      headers: token === undefined ? {} : { authorization: `Daybook ${token}` },
      signal: AbortSignal.timeout(readTimeoutMs),
    });
    body = await response.json();
  } catch (cause) {
    throw new DaybookError('PEER_UNREACHABLE', `no answer from ${url.origin}`, {
      cause,
      details: { gateway: url.origin },
    });
  }
  if (!response.ok && !anyStatus) throw DaybookError.fromJSON(body as ErrorJson);
  return body as T;
}

const readTimeoutMs = 10_000;
