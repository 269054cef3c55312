import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type ConnectOptions, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type { Signer } from '../../src/model/index.ts';
import {
  type Network,
  type RegistryConfig,
  RegistryFiles,
  type RegistryNode,
  startNetwork,
  startRegistryNode,
} from '../../src/node/index.ts';

/** The contract lies in the source tree; the compiled example in `dist/examples/registry`. */
function contractDirectory(): string {
  const here = import.meta.url;
  const root = here.includes('/dist/') ? '../../../' : '../../';
  return fileURLToPath(new URL(`${root}examples/contracts/registry`, here));
}

/** One administration: its own ledger, its own authority, its registry node, its publishers. */
export class Administration {
  readonly node: string;
  readonly files: RegistryFiles;
  readonly #directory: string;
  readonly #port: number;
  #network: Network | undefined;
  #registry: RegistryNode | undefined;

  /** @param port - for other nodes; fixed, since they are told of it before it is served. */
  constructor(node: string, directory: string, port: number) {
    this.node = node;
    this.#directory = directory;
    this.#port = port;
    this.files = new RegistryFiles(realIo(), directory);
  }

  get replicationUrl(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  /** Sets the node up with one publisher, whose password is `secret`. */
  async init(publisher: string, joins?: readonly string[]): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    const addresses: Pick<RegistryConfig, 'api' | 'replication'> = {
      api: { host: '127.0.0.1', port: 0 },
      replication: { host: '127.0.0.1', port: this.#port },
    };
    await this.files.init(this.node, addresses, joins);
    // The story stops nodes on purpose, and its publishers have patience.
    await this.files.write({ ...(await this.files.read()), settleMs: 60_000 });
    await this.files.setAccount(publisher, 'secret');
  }

  /** Makes another administration known to this one. */
  async know(other: Administration): Promise<void> {
    const authority = await other.files.text('authority.cert.pem');
    await this.files.setPeer(other.node, other.replicationUrl, authority);
  }

  /** Starts ledger and registry node. */
  async start(onEvent: (text: string) => void): Promise<void> {
    this.#network ??= await startNetwork({
      directory: this.#directory,
      executors: 1,
      httpPort: 0,
      blocks: false,
    });
    const { gateways, channel, signer } = this.#network;
    this.#registry = await startRegistryNode({
      io: realIo(),
      directory: this.#directory,
      gateways,
      channel,
      signer,
      bundle: await bundleContract(contractDirectory()),
      onEvent,
    });
  }

  /** Stops the registry node only; the ledger goes on. */
  async stopRegistry(): Promise<void> {
    await this.#registry?.close();
    this.#registry = undefined;
  }

  async stop(): Promise<void> {
    await this.stopRegistry();
    await this.#network?.close();
  }

  /** An order of the operator to the registry's contract. */
  async order(functionName: string, ...args: readonly string[]): Promise<string> {
    const client = await connect(this.connection());
    try {
      return (await client.submit('registry', functionName, args)).text();
    } finally {
      await client.close();
    }
  }

  /** Asks the registry's contract without changing anything. */
  async read(functionName: string, ...args: readonly string[]): Promise<string> {
    const client = await connect(this.connection());
    try {
      return (await client.evaluate('registry', functionName, args)).text();
    } finally {
      await client.close();
    }
  }

  /** How the ledger is reached as its administrator. */
  connection(): Pick<ConnectOptions, 'gateways' | 'channel'> & { readonly signer: Signer } {
    if (this.#network === undefined) throw new Error(`${this.node} is not started`);
    const { gateways, channel, signer } = this.#network;
    return { gateways, channel, signer };
  }

  /** Sends a message of UDDI's APIs; returns the content of the answer's body. */
  async ask(message: string): Promise<string> {
    const url = this.#registry?.apiUrl;
    if (url === undefined) throw new Error(`${this.node} is not started`);
    return await soap(`${url}/uddi/publication`, message);
  }

  /** Logs a publisher in. */
  async token(publisher: string): Promise<string> {
    const answer = await this.ask(
      `<get_authToken xmlns="urn:uddi-org:api_v3" userID="${publisher}" cred="secret"/>`,
    );
    return /<authInfo>([^<]*)</.exec(answer)?.[1] ?? '';
  }
}

/** Posts a SOAP message; returns what is in the body of the answer. */
export async function soap(url: string, message: string): Promise<string> {
  const body = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>${message}</Body></Envelope>`;
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'text/xml; charset=utf-8', soapaction: '""' },
    body,
  });
  const text = await response.text();
  return /<soap:Body>([\s\S]*)<\/soap:Body>/.exec(text)?.[1] ?? text;
}

/** UDDI's error code in an answer, with what it says; `done` when it is no fault. */
export function outcomeIn(answer: string): string {
  return /<errInfo[^>]*>([^<]*)</.exec(answer)?.[1] ?? 'done';
}
