import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { testServerCertificate } from '../../src/gateway/testing/identities.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';

/* A network with everything that `daybook up` can switch: HTTPS, closed reads, no blocks. */

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

test('HTTPS, closed reads, no blocks', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-options-'));
  const { ca, cert, key } = await testServerCertificate('localhost');
  const tls = { certificateFile: join(directory, 'tls.pem'), keyFile: join(directory, 'tls.key') };
  writeFileSync(tls.certificateFile, cert);
  writeFileSync(tls.keyFile, key);
  const network = await startNetwork({
    directory,
    executors: 1,
    httpPort: 0,
    host: 'localhost',
    tls,
    openReads: false,
    blocks: false,
    tickIntervalMs: 50,
  });
  try {
    const { gateways, channel, signer } = network;
    expect(gateways[0]).toMatch(/^https:\/\/localhost:/);
    const client = await connect({ gateways, channel, signer, tls: { ca } });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bank')));
    const { txId } = await client.submit('bank', 'open', ['alice', 'Alice', '1']);
    expect(await client.status(txId)).toMatchObject({ valid: true });
    await expect(client.get('blocks')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await client.close();

    const stranger = await connect({
      gateways,
      channel,
      signer: { ...signer, identity: { ...signer.identity, mspId: 'OtherMSP' } },
      tls: { ca },
    });
    await expect(stranger.get('contracts')).rejects.toMatchObject({ code: 'IDENTITY_UNKNOWN' });
    await stranger.close();
    const status = await network.status();
    expect(status.executors[0]?.status?.blocks).toBeUndefined();
    // The configuration, the deployment, the account: nobody ticks for blocks that nobody makes.
    expect(status.tail).toBe(3);
  } finally {
    await network.close();
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);

test('a network that has lost its authority says so', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-options-'));
  const start = async (): Promise<string[]> => {
    const events: string[] = [];
    const onEvent = (text: string): void => void events.push(text);
    const settings = { directory, executors: 1, httpPort: 0, blocks: false, onEvent };
    await (await startNetwork(settings)).close();
    return events.filter((text) => text.includes('ALARM'));
  };
  expect(await start()).toEqual([]);
  rmSync(join(directory, 'identities'), { recursive: true });
  expect(await start()).toEqual([expect.stringMatching(/^ALARM the authority in .*identities/)]);
  rmSync(directory, { recursive: true, force: true });
}, 60_000);

test('a network whose certificate is not there does not start', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-options-'));
  const tls = { certificateFile: join(directory, 'no.pem'), keyFile: join(directory, 'no.key') };
  await expect(startNetwork({ directory, executors: 1, httpPort: 0, tls })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
  rmSync(directory, { recursive: true, force: true });
}, 60_000);
