import type { PeerCertificate } from 'node:tls';
import { Agent } from 'undici';
import { DaybookError } from '../../../base/index.ts';
import { answerCharactersMax } from '../uddi/index.ts';

/** Certificate and key with which a node meets others, PEM. */
export interface NodeCredentials {
  readonly node: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** Another member: where it listens, and the authority that issues its certificate. */
export interface Peer {
  readonly node: string;
  /** `https://host:port`; absent for one that is only heard of through others. */
  readonly url?: string;
  /** PEM. */
  readonly authority: string;
}

const connectMs = 5_000;
const answerMs = 30_000;

/**
 * Sends messages to one peer over mutual TLS. The peer's certificate must be of the peer's own
 * authority and name the peer.
 */
export class PeerLink {
  readonly peer: Peer;
  readonly #agent: Agent;

  constructor(own: NodeCredentials, peer: Peer) {
    this.peer = peer;
    this.#agent = new Agent({
      connections: 2,
      maxResponseSize: 4 * answerCharactersMax,
      headersTimeout: answerMs,
      bodyTimeout: answerMs,
      connect: {
        timeout: connectMs,
        cert: own.certificate,
        key: own.privateKey,
        ca: peer.authority,
        checkServerIdentity: (_host: string, { subject }: PeerCertificate) =>
          subject.CN === peer.node
            ? undefined
            : new Error(`${String(subject.CN)} answers for ${peer.node}`),
      },
    });
  }

  /**
   * Posts a SOAP message and returns the answer's text, a fault's, too.
   *
   * @throws {DaybookError} `PEER_UNREACHABLE`
   */
  async post(text: string): Promise<string> {
    const { url, node } = this.peer;
    if (url === undefined) {
      throw new DaybookError('PEER_UNREACHABLE', `no address of ${node} is configured`);
    }
    try {
      const { body } = await this.#agent.request({
        origin: new URL(url).origin,
        path: '/uddi/replication',
        method: 'POST',
        headers: { 'content-type': 'text/xml; charset=utf-8', soapaction: '""' },
        body: text,
      });
      return await body.text();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new DaybookError('PEER_UNREACHABLE', `${node} does not answer: ${why}`, { cause });
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}
