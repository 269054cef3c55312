import { expect, it } from 'vitest';
import { runRegistryExample } from '../../examples/registry/run.ts';
import { TlsNode } from '../../examples/registry/tls-node.ts';
import { DevelopmentCa } from '../../src/node/index.ts';

it('shows two registries and a third over mutual TLS, and one of two concurrent changes losing', async () => {
  const said: string[] = [];
  const { sameEverywhere, loserTold } = await runRegistryExample((text) => said.push(text));
  expect(sameEverywhere).toBe(true);
  expect(loserTold).toBe('failed, by uddi:maps.example:node');
  expect(said.join('\n')).toMatch(/maps deletes Z: E_requestDenied/);
  expect(said.join('\n')).toMatch(/X2 is committed/);
  expect(said.join('\n')).toMatch(/uddi:late.example:node: .*:x no, .*:x2 yes/);
}, 30_000);

it('talks only to nodes whose certificates the common authority gave, each in its own name', async () => {
  const now = Date.now();
  const [ours, foreign] = [
    await DevelopmentCa.create('Registries', now),
    await DevelopmentCa.create('Registries', now),
  ];
  const nodeOf = async (id: string, ca: DevelopmentCa, name = id): Promise<TlsNode> => {
    const { certificate, privateKey } = await ca.issue(name, { role: 'peer' });
    return new TlsNode(id, { certificate, privateKey, authority: ours.root.certificate });
  };
  const [a, b] = ['uddi:a.example:node', 'uddi:b.example:node'] as const;
  const server = await nodeOf(a, ours);
  server.found();
  const port = await server.listen();
  const ask = async (client: TlsNode, peer: string): Promise<unknown> => {
    client.addPeer(peer, port);
    client.join([a]);
    return await client.pullFrom(peer);
  };
  try {
    expect(await ask(await nodeOf(b, ours), a)).toBe(1);
    await expect(ask(await nodeOf(b, foreign), a)).rejects.toThrow();
    // A certificate of another name: the server answers E_userMismatch.
    await expect(ask(await nodeOf(b, ours, 'uddi:c.example:node'), a)).rejects.toThrow(
      /E_userMismatch/,
    );
    // A server that is not who it was taken for.
    await expect(ask(await nodeOf(b, ours), 'uddi:c.example:node')).rejects.toThrow(/is not/);
  } finally {
    server.close();
  }
}, 30_000);
