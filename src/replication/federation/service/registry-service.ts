import type { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { DaybookError } from '../../../base/index.ts';
import { type Io, pause } from '../../../io/index.ts';
import { type Signer, sha256Hex, signerFromPem } from '../../../model/index.ts';
import {
  type ChangeRecord,
  journalPrefix,
  type Outcome,
  type PullAnswer,
  type Row,
  refusal,
  rows,
  type Vector,
} from '../core/index.ts';
import {
  answerApi,
  answerReplication,
  type Custody,
  checkEmptyAnswer,
  childText,
  custodyRequest,
  element,
  faultOf,
  type RegistryAccess,
  type ReplicatedRegistry,
} from '../uddi/index.ts';
import { type Account, AccountTokens } from './accounts.ts';
import { CopySpool } from './copy-spool.ts';
import { type NodeCredentials, type Peer, PeerLink } from './peer-link.ts';
import { type ContractCalls, RegistryLedger } from './registry-ledger.ts';
import { Authorities, fingerprintOf, signRecord } from './signing.ts';
import { type PeerState, Sync } from './sync.ts';

/** Settings of {@link RegistryService}. */
export interface RegistryServiceOptions {
  readonly io: Pick<Io, 'clock' | 'disk' | 'random' | 'timers'>;
  readonly calls: ContractCalls;
  readonly credentials: NodeCredentials;
  readonly peers: readonly Peer[];
  /** Read at each login, so that new publishers need no restart. */
  readonly accounts: () => Promise<readonly Account[]>;
  /** A directory of its own, for copies on their way. */
  readonly directory: string;
  /** Default 5,000. */
  readonly pullIntervalMs?: number;
  /** How long a publication waits for other nodes before it is answered `E_busy`. Default 10,000. */
  readonly settleMs?: number;
  readonly onEvent: (text: string) => void;
}

interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

const transferLifetimeMs = 24 * 3_600_000;
const settlePollMs = 50;

/**
 * A registry node on a ledger: UDDI's APIs for publishers and everybody, and replication with other
 * nodes. It keeps nothing that counts: the ledger does.
 */
export class RegistryService {
  readonly #options: RegistryServiceOptions;
  readonly #ledger: RegistryLedger;
  readonly #authorities: Authorities;
  readonly #links: readonly PeerLink[];
  readonly #sync: Sync;
  readonly #signer: Signer;
  readonly #fingerprint: string;
  readonly #certificates = new Map<string, string>();
  readonly #access: RegistryAccess;
  readonly #replicated: ReplicatedRegistry;

  constructor(options: RegistryServiceOptions) {
    this.#options = options;
    const { io, credentials, peers, onEvent } = options;
    const { node, certificate, privateKey } = credentials;
    this.#ledger = new RegistryLedger(options.calls);
    this.#signer = signerFromPem({ mspId: node, certificate }, privateKey);
    this.#fingerprint = fingerprintOf(certificate);
    this.#certificates.set(this.#fingerprint, certificate);
    const roots = new Map<string, string[]>();
    for (const peer of peers) {
      roots.set(peer.node, [...(roots.get(peer.node) ?? []), peer.authority]);
    }
    this.#authorities = new Authorities(Object.fromEntries(roots));
    this.#links = peers.map((peer) => new PeerLink(credentials, peer));
    this.#sync = new Sync({
      io,
      node,
      ledger: this.#ledger,
      links: this.#links,
      authorities: this.#authorities,
      intervalMs: options.pullIntervalMs ?? 5_000,
      onEvent,
    });
    const tokens = new AccountTokens(io, options.accounts);
    this.#access = {
      publish: async (message, publisher) => {
        const answer = await this.#ledger.publish(message, publisher);
        this.#sync.tell();
        return answer;
      },
      inquire: (message) => this.#ledger.inquire(message),
      scan: (message, publisher, nested, after) =>
        this.#ledger.scan(message, publisher, nested, after),
      settled: (usn) => this.#settled(usn),
      tokens,
      custody: this.#custody(),
    };
    const relayable = (found: readonly Row[]): readonly Row[] => this.#relayable(found);
    const spool = new CopySpool(io, this.#ledger, join(options.directory, 'copy'), relayable);
    this.#replicated = {
      node,
      highWaterMarks: () => this.#ledger.highWaterMarks(),
      pull: (marks, limit, upTo) => this.#pull(marks, limit, upTo),
      notified: (peer) => this.#sync.pullSoon(peer),
      fullCopy: (copy, page) => spool.page(copy, page),
      transferCustody: async (token, keys, to) => {
        await this.#ledger.acceptTransfer(hashOf(token), keys, to);
        this.#sync.tell();
      },
    };
  }

  /**
   * Begins to exchange records. A ledger without a registry is founded, or joins the federation of
   * the nodes `joins`.
   *
   * @throws {DaybookError} `CONFIG_INVALID` when the ledger holds another node.
   */
  async start(joins: readonly string[] | undefined): Promise<void> {
    const { node } = this.#options.credentials;
    const self = await this.#ledger.self();
    if (self === null) {
      if (joins === undefined) await this.#ledger.found(node);
      else await this.#ledger.join(node, joins);
    } else if (self.node !== node) {
      throw new DaybookError('CONFIG_INVALID', `the ledger holds the node ${self.node}`);
    }
    this.#sync.start();
  }

  /** Answers a message of UDDI's publication, inquiry, security and custody APIs. */
  answerApi(text: string): Promise<HttpAnswer> {
    return answerApi(this.#access, text);
  }

  /** Answers a message of another node, whose certificate the connection has proved. */
  async answerPeer(text: string, certificate: X509Certificate | undefined): Promise<HttpAnswer> {
    const peer = certificate === undefined ? undefined : this.#authorities.memberOf(certificate);
    if (peer === undefined) {
      const error = refusal('E_unknownUser', 'the certificate is of no node that is known here');
      return { status: 500, body: faultOf(error) };
    }
    return await answerReplication(this.#replicated, peer, text);
  }

  /** What peers are known to have, and what failed last. */
  peers(): readonly PeerState[] {
    return this.#sync.states();
  }

  async close(): Promise<void> {
    await this.#sync.close();
    await Promise.all(this.#links.map((link) => link.close()));
  }

  async #pull(
    marks: Vector,
    limit: number,
    upTo: Vector | undefined,
  ): Promise<PullAnswer & { readonly certificates?: Readonly<Record<string, string>> }> {
    const answer = await this.#ledger.pull(marks, limit, upTo);
    if (answer.type !== 'records') return answer;
    const certificates: Record<string, string> = {};
    const records = answer.records.map((record) => this.#signed(record));
    for (const { signature } of records) {
      if (signature === undefined || signature.certificate in certificates) continue;
      const pem = await this.#certificate(signature.certificate);
      if (pem !== undefined) certificates[signature.certificate] = pem;
    }
    return { ...answer, records, certificates };
  }

  /**
   * Rows of a full copy, with signatures of this node's records: who takes the copy passes them on to
   * others, who want both the signature and its certificate.
   */
  #relayable(found: readonly Row[]): readonly Row[] {
    const { certificate } = this.#options.credentials;
    const relayable = found.map((row) =>
      row.key.startsWith(journalPrefix)
        ? { ...row, value: this.#signed(row.value as ChangeRecord) }
        : row,
    );
    const isSigned = relayable.some(({ value }, at) => value !== found[at]?.value);
    if (!isSigned) return relayable;
    return [...relayable, { key: rows.certificate(this.#fingerprint), value: certificate }];
  }

  /** With this node's signature, if the record is its own. */
  #signed(record: ChangeRecord): ChangeRecord {
    return record.origin === this.#options.credentials.node
      ? signRecord(record, this.#signer, this.#fingerprint)
      : record;
  }

  async #certificate(fingerprint: string): Promise<string | undefined> {
    const known = this.#certificates.get(fingerprint);
    if (known !== undefined) return known;
    const pem = await this.#ledger.certificate(fingerprint);
    if (pem !== undefined) this.#certificates.set(fingerprint, pem);
    return pem;
  }

  async #settled(usn: number): Promise<Outcome | undefined> {
    const { io, settleMs = 10_000 } = this.#options;
    const untilMs = io.clock.monotonicMs() + settleMs;
    for (;;) {
      const outcome = await this.#ledger.outcome(usn);
      if (outcome?.state !== 'pending' || io.clock.monotonicMs() >= untilMs) return outcome;
      await pause(io, settlePollMs, { keepAlive: true });
    }
  }

  #custody(): Custody {
    const { io, credentials } = this.#options;
    return {
      offer: async (publisher, keys) => {
        const token = io.random.bytes(32).toString('base64');
        const expiresMs = io.clock.nowMs() + transferLifetimeMs;
        await this.#ledger.offerTransfer(hashOf(token), { keys, publisher, expiresMs });
        return element('transferToken', {
          children: [
            element('nodeID', { text: credentials.node }),
            element('expirationTime', { text: new Date(expiresMs).toISOString() }),
            element('opaqueToken', { text: token }),
          ],
        });
      },
      accept: async (publisher, token, keys) => {
        const from = childText(token, 'nodeID')?.toLowerCase() ?? '';
        const to = { node: credentials.node, publisher };
        if (from === credentials.node) {
          const opaque = childText(token, 'opaqueToken') ?? '';
          await this.#ledger.acceptTransfer(hashOf(opaque), keys, to);
          return;
        }
        const link = this.#links.find(({ peer }) => peer.node === from);
        if (link === undefined) throw refusal('E_transferNotAllowed', `${from} is not known here`);
        checkEmptyAnswer(await link.post(custodyRequest(token, keys, to)));
        this.#sync.pullSoon(from);
      },
      discard: async (publisher, token, keys) => {
        const what = token === undefined ? { keys } : { hash: hashOf(token) };
        await this.#ledger.discardTransfer(publisher, what);
      },
    };
  }
}

function hashOf(token: string): string {
  return sha256Hex(Buffer.from(token));
}
