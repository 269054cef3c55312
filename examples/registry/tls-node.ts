import { createServer, request, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import {
  answerReplication,
  draftOf,
  found,
  highWaterMarks,
  join,
  MemoryStore,
  messageCharactersMax,
  notification,
  parseXml,
  pull,
  pullRequest,
  receive,
  recordsInAnswer,
  type Step,
  save,
  uddiCodeOf,
} from '../../src/replication/federation/index.ts';

/** Certificate and key of a node, PEM, and the authority that all members trust. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly privateKey: string;
  readonly authority: string;
}

const requestTimeoutMs = 10_000;

/**
 * A registry node that speaks UDDI's replication API over mutual TLS. The common name of a
 * certificate is the node's id, so nobody speaks for another. Its store is in memory; on a ledger
 * the same steps run in the contract `registry`.
 */
export class TlsNode {
  readonly id: string;
  readonly #identity: TlsIdentity;
  readonly #store = new MemoryStore();
  readonly #peers = new Map<string, string>();
  readonly #server: Server;
  #time = 0;
  #keys = 0;

  constructor(id: string, identity: TlsIdentity) {
    this.id = id;
    this.#identity = identity;
    this.#server = createServer(
      {
        cert: identity.certificate,
        key: identity.privateKey,
        ca: identity.authority,
        requestCert: true,
        rejectUnauthorized: true,
      },
      (incoming, outgoing) => {
        const peer = (incoming.socket as TLSSocket).getPeerCertificate().subject.CN;
        let text = '';
        incoming.setEncoding('utf8');
        incoming.on('data', (part: string) => {
          text += part;
          if (text.length > messageCharactersMax) incoming.destroy();
        });
        incoming.on('end', () => {
          const registry = {
            node: this.id,
            highWaterMarks: async () => this.run(highWaterMarks()),
            pull: async (...args: Parameters<typeof pull>) => this.run(pull(...args)),
            notified: (from: string) => void this.pullFrom(from).catch(() => undefined),
          };
          void answerReplication(registry, String(peer), text).then(({ status, body }) => {
            outgoing.writeHead(status, { 'content-type': 'text/xml; charset=utf-8' }).end(body);
          });
        });
      },
    );
  }

  /** Listens on a free port; resolves with it. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Where another node listens. */
  addPeer(node: string, port: number): void {
    this.#peers.set(node, `https://127.0.0.1:${port}/`);
  }

  run<T>(step: Step<T>): T {
    return this.#store.run(step);
  }

  found(): void {
    this.run(found(this.id));
  }

  join(known: readonly string[]): void {
    this.run(join(this.id, known));
  }

  /** Publishes a businessEntity or tModel; returns the change's number and state, or the refusal. */
  publish(xml: string, publisher: string): { readonly usn: number; readonly state: string } {
    const prefix = this.id.slice(0, this.id.lastIndexOf(':') + 1);
    const draft = draftOf(parseXml(xml), publisher, () => `${prefix}k${++this.#keys}`);
    const { change, state } = this.run(save(draft, ++this.#time));
    return { usn: change.usn, state };
  }

  /** Takes all that a peer has; returns how many records were new. */
  async pullFrom(peer: string, pageRecords = 100): Promise<number> {
    for (let taken = 0; ; ) {
      const marks = this.run(highWaterMarks());
      const answer = await this.#post(peer, pullRequest(this.id, marks, pageRecords));
      const records = recordsInAnswer(answer);
      if (records.length === 0) return taken;
      const result = this.run(receive(records, ++this.#time));
      if (result.taken === 0) return taken;
      taken += result.taken;
    }
  }

  /** Tells a peer that there is something to pull; it pulls by itself. */
  async notify(peer: string): Promise<void> {
    await this.#post(peer, notification(this.id, this.run(highWaterMarks())));
  }

  #post(peer: string, body: string): Promise<string> {
    const url = this.#peers.get(peer);
    if (url === undefined) throw new Error(`no address of ${peer} is known`);
    return new Promise((resolve, reject) => {
      const outgoing = request(
        url,
        {
          method: 'POST',
          cert: this.#identity.certificate,
          key: this.#identity.privateKey,
          ca: this.#identity.authority,
          timeout: requestTimeoutMs,
          headers: { 'content-type': 'text/xml; charset=utf-8', soapaction: '""' },
          checkServerIdentity: (_host, { subject }) =>
            subject.CN === peer ? undefined : new Error(`${String(subject.CN)} is not ${peer}`),
        },
        (incoming) => {
          let text = '';
          incoming.setEncoding('utf8');
          incoming.on('data', (part: string) => {
            text += part;
            if (text.length > messageCharactersMax) incoming.destroy(new Error('too long'));
          });
          incoming.on('end', () => resolve(text));
          incoming.on('error', reject);
        },
      );
      outgoing.on('timeout', () => outgoing.destroy(new Error(`${peer} does not answer`)));
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
}

/** What came of an attempt: its result as text, or UDDI's code. */
export function attempt(run: () => unknown): string {
  try {
    const result = run();
    return typeof result === 'object' ? JSON.stringify(result) : 'done';
  } catch (error) {
    return `${uddiCodeOf(error)} (${error instanceof Error ? error.message : String(error)})`;
  }
}
