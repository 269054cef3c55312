import { type Client, connect } from '../client/index.ts';
import type { ContractBundle } from '../contract/index.ts';
import { startSoapServer } from '../gateway/index.ts';
import type { Io } from '../io/index.ts';
import type { Signer } from '../model/index.ts';
import { federation } from '../replication/index.ts';
import { RegistryFiles } from './registry-files.ts';

/** Name under which the registry's contract is deployed. */
export const registryContract = 'registry';

/** Settings of {@link startRegistryNode}. */
export interface RegistryNodeOptions {
  readonly io: Io;
  /** Data directory of the network; the registry's files lie in `registry/`. */
  readonly directory: string;
  readonly gateways: readonly string[];
  readonly channel: string;
  /** The operator: who founds the node, and alone speaks for it on the ledger. */
  readonly signer: Signer;
  /** The registry's contract; deployed when it is not there in this version. */
  readonly bundle: ContractBundle;
  readonly onEvent: (text: string) => void;
}

/** A registry node that serves. */
export interface RegistryNode {
  readonly node: string;
  /** Where publishers and everybody ask. */
  readonly apiUrl: string;
  /** Where other nodes ask. */
  readonly replicationUrl: string;
  peers(): readonly federation.PeerState[];
  close(): Promise<void>;
}

const apiPaths = ['/uddi/inquiry', '/uddi/publication', '/uddi/security', '/uddi/custody'];
const apiConnectionsMax = 500;
const peerConnectionsMax = 128;
/** Characters may be three bytes long. */
const bytesPerCharacter = 3;

/**
 * Starts a registry node on a running network: UDDI's APIs over HTTP(S), and replication with other
 * nodes over mutual TLS.
 *
 * @throws {DaybookError} `NOT_FOUND`, `CONFIG_INVALID`, `IO_FAILED`, and what deploying throws.
 */
export async function startRegistryNode(options: RegistryNodeOptions): Promise<RegistryNode> {
  const { io, gateways, channel, signer, bundle, onEvent } = options;
  const files = new RegistryFiles(io, options.directory);
  const config = await files.read();
  const credentials = {
    node: config.node,
    certificate: await files.text(config.certificateFile),
    privateKey: await files.text(config.keyFile),
  };
  const peers = await Promise.all(
    config.peers.map(async ({ node, url, authorityFile }) => ({
      node,
      authority: await files.text(authorityFile),
      ...(url === undefined ? {} : { url }),
    })),
  );
  const { certificateFile, keyFile } = config.api;
  const apiTls =
    certificateFile === undefined || keyFile === undefined
      ? undefined
      : { cert: await files.text(certificateFile), key: await files.text(keyFile) };
  const client = await connect({ gateways, channel, signer, io, batchDelayMs: 5 });
  const service = new federation.RegistryService({
    io,
    calls: contractCalls(client),
    credentials,
    peers,
    accounts: () => files.accounts(),
    directory: files.directory,
    ...(config.pullIntervalMs === undefined ? {} : { pullIntervalMs: config.pullIntervalMs }),
    ...(config.settleMs === undefined ? {} : { settleMs: config.settleMs }),
    onEvent,
  });
  const closers: (() => Promise<void>)[] = [() => client.close(), () => service.close()];
  const close = async (): Promise<void> => {
    for (const one of closers.reverse()) await one();
  };
  try {
    await deploy(client, bundle);
    const server = await startSoapServer({
      io,
      ...config.replication,
      paths: ['/uddi/replication'],
      tls: {
        cert: credentials.certificate,
        key: credentials.privateKey,
        ca: peers.map(({ authority }) => authority),
      },
      bytesMax: bytesPerCharacter * federation.messageCharactersMax,
      connectionsMax: peerConnectionsMax,
      answer: (text, certificate) => service.answerPeer(text, certificate),
    });
    closers.push(() => server.close());
    const api = await startSoapServer({
      io,
      host: config.api.host,
      port: config.api.port,
      paths: apiPaths,
      ...(apiTls === undefined ? {} : { tls: apiTls }),
      bytesMax: bytesPerCharacter * federation.messageCharactersMax,
      connectionsMax: apiConnectionsMax,
      answer: (text) => service.answerApi(text),
    });
    closers.push(() => api.close());
    await service.start(config.joins);
    return {
      node: config.node,
      apiUrl: api.url,
      replicationUrl: server.url,
      peers: () => service.peers(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The calls of the registry's contract through a client. */
export function contractCalls(client: Client): federation.ContractCalls {
  return {
    submit: async (functionName, args) =>
      (await client.submit(registryContract, functionName, args)).text(),
    evaluate: async (functionName, args) =>
      (await client.evaluate(registryContract, functionName, args)).text(),
  };
}

async function deploy(client: Client, bundle: ContractBundle): Promise<void> {
  const { contracts } = (await client.get('contracts')) as {
    contracts: readonly { readonly name: string; readonly version: string }[];
  };
  const there = contracts.find(({ name }) => name === registryContract);
  if (there?.version !== bundle.version) await client.deploy(bundle);
}
