import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import { federation } from '../replication/index.ts';
import { DevelopmentCa } from './dev-ca.ts';

/** Where a registry node listens. */
export interface RegistryAddress {
  readonly host: string;
  readonly port: number;
}

/** `registry.json`: what a registry node is told about itself and others. */
export interface RegistryConfig {
  readonly version: 1;
  /** `uddi:<domain>:<name>`. */
  readonly node: string;
  /** UDDI's APIs for publishers and everybody; HTTPS when the files are given. */
  readonly api: RegistryAddress & { readonly certificateFile?: string; readonly keyFile?: string };
  /** For other nodes, over mutual TLS. */
  readonly replication: RegistryAddress;
  /** Certificate and key with which other nodes are met; paths from the registry's directory. */
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Whom to join on the first start; absent: founded. */
  readonly joins?: readonly string[];
  readonly peers: readonly {
    readonly node: string;
    readonly url?: string;
    readonly authorityFile: string;
  }[];
  /** Milliseconds between pulls that nobody asked for. */
  readonly pullIntervalMs?: number;
  /** How long a publication waits for other nodes, milliseconds. */
  readonly settleMs?: number;
}

const certificateFile = 'node.cert.pem';
const keyFile = 'node.key.pem';
const authorityFile = 'authority.cert.pem';

/** The files of a registry node: `registry/` in the data directory of its network. */
export class RegistryFiles {
  readonly directory: string;
  readonly #io: Pick<Io, 'clock' | 'disk' | 'random'>;

  constructor(io: Pick<Io, 'clock' | 'disk' | 'random'>, networkDirectory: string) {
    this.#io = io;
    this.directory = join(networkDirectory, 'registry');
  }

  /**
   * Sets a node up: an authority of its own with a certificate for the node, and its configuration.
   *
   * @returns the file to give to the other nodes.
   * @throws {DaybookError} `INVALID_ARGUMENT` when there is one already, or for a wrong node id.
   */
  async init(
    node: string,
    addresses: Pick<RegistryConfig, 'api' | 'replication'>,
    joins?: readonly string[],
  ): Promise<string> {
    const { disk, clock } = this.#io;
    if (!federation.isUddiKey(node) || federation.prefixOf(node) === 'uddi:') {
      throw new DaybookError('INVALID_ARGUMENT', `not a node id: ${node} (uddi:<domain>:<name>)`);
    }
    if ((await disk.readFile(this.path('registry.json'))) !== undefined) {
      throw new DaybookError('INVALID_ARGUMENT', `${this.directory} holds a registry already`);
    }
    await disk.makeDirectory(this.directory);
    const ca = await DevelopmentCa.create(node, clock.nowMs());
    const issued = await ca.issue(node, { role: 'peer' });
    await disk.writeFile(this.path(authorityFile), Buffer.from(ca.root.certificate));
    const secret = { ownerOnly: true };
    await disk.writeFile(this.path('authority.key.pem'), Buffer.from(ca.root.privateKey), secret);
    await disk.writeFile(this.path(certificateFile), Buffer.from(issued.certificate));
    await disk.writeFile(this.path(keyFile), Buffer.from(issued.privateKey), secret);
    await this.write({
      version: 1,
      node,
      ...addresses,
      certificateFile,
      keyFile,
      peers: [],
      ...(joins === undefined ? {} : { joins }),
    });
    return this.path(authorityFile);
  }

  /** @throws {DaybookError} `NOT_FOUND`, `CONFIG_INVALID` */
  async read(): Promise<RegistryConfig> {
    const path = this.path('registry.json');
    const bytes = await this.#io.disk.readFile(path);
    if (bytes === undefined) {
      throw new DaybookError('NOT_FOUND', `no registry in ${this.directory}`, {
        details: { path },
      });
    }
    try {
      const config = JSON.parse(bytes.toString('utf8')) as RegistryConfig;
      if (config.version !== 1 || !federation.isUddiKey(config.node)) throw new Error('not one');
      for (const { node, authorityFile: file } of config.peers) {
        if (!federation.isUddiKey(node) || typeof file !== 'string') throw new Error('a peer');
      }
      return config;
    } catch (cause) {
      throw new DaybookError('CONFIG_INVALID', `${path} is not a registry’s configuration`, {
        cause,
        details: { path },
      });
    }
  }

  async write(config: RegistryConfig): Promise<void> {
    const text = `${JSON.stringify(config, undefined, 2)}\n`;
    await this.#io.disk.writeFile(this.path('registry.json'), Buffer.from(text));
  }

  /** Adds a peer, or changes what is known of it; the authority's certificate is copied. */
  async setPeer(node: string, url: string | undefined, authority: string): Promise<void> {
    const config = await this.read();
    if (!federation.isUddiKey(node) || node === config.node) {
      throw new DaybookError('INVALID_ARGUMENT', `not another node’s id: ${node}`);
    }
    if (url !== undefined && !(URL.canParse(url) && new URL(url).protocol === 'https:')) {
      throw new DaybookError('INVALID_ARGUMENT', `not https://host:port: ${url}`);
    }
    try {
      new X509Certificate(authority);
    } catch (cause) {
      const message = `the authority of ${node} is not a certificate (PEM)`;
      throw new DaybookError('INVALID_ARGUMENT', message, { cause });
    }
    const file = `${node.replaceAll(/[^a-z0-9.-]/g, '_')}.authority.pem`;
    await this.#io.disk.writeFile(this.path(file), Buffer.from(authority));
    const others = config.peers.filter((peer) => peer.node !== node);
    const peer = { node, authorityFile: file, ...(url === undefined ? {} : { url }) };
    await this.write({ ...config, peers: [...others, peer] });
  }

  async accounts(): Promise<readonly federation.Account[]> {
    const bytes = await this.#io.disk.readFile(this.path('publishers.json'));
    return bytes === undefined
      ? []
      : (JSON.parse(bytes.toString('utf8')) as readonly federation.Account[]);
  }

  /** Adds a publisher, or gives one another password. */
  async setAccount(name: string, password: string): Promise<void> {
    const others = (await this.accounts()).filter((account) => account.name !== name);
    const accounts = [...others, federation.newAccount(this.#io, name, password)];
    const bytes = Buffer.from(JSON.stringify(accounts));
    await this.#io.disk.writeFile(this.path('publishers.json'), bytes, { ownerOnly: true });
  }

  /** @throws {DaybookError} `NOT_FOUND` */
  async text(file: string): Promise<string> {
    const bytes = await this.#io.disk.readFile(this.path(file));
    if (bytes !== undefined) return bytes.toString('utf8');
    throw new DaybookError('NOT_FOUND', `no file ${this.path(file)}`, { details: { file } });
  }

  path(file: string): string {
    return file.startsWith('/') ? file : join(this.directory, file);
  }
}
