import { expect, test } from 'vitest';
import { startGateway } from '../gateway/index.ts';
import { FakeBackend } from '../gateway/testing/fake-backend.ts';
import { testMsp, testServerCertificate } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import { connect } from './index.ts';

test('a gateway that cannot be trusted or does not speak HTTPS is named, with the reason', async () => {
  const io = realIo();
  const { msp, signer } = await testMsp('BankMSP');
  const start = async (tls?: { cert: string; key: string }) =>
    startGateway({
      io,
      nodeName: 'n',
      backends: [new FakeBackend('pay', [msp])],
      host: 'localhost',
      ...(tls === undefined ? {} : { tls }),
    });
  const plain = await start();
  const secure = await start(await testServerCertificate('localhost'));
  const swapped = (url: string): string =>
    url.startsWith('https:') ? url.replace('https:', 'http:') : url.replace('http:', 'https:');
  const cases: [gateway: string, code: string, reason: RegExp][] = [
    [secure.url, 'PEER_UNREACHABLE', /leads to no root that is trusted here \(NODE_EXTRA_CA_CERTS/],
    [swapped(plain.url), 'PEER_UNREACHABLE', /does not speak TLS there/],
    [swapped(secure.url), 'OUTCOME_UNKNOWN', /closed without an answer \(as a port for https/],
  ];
  for (const [gateway, code, reason] of cases) {
    const client = await connect({ gateways: [gateway], channel: 'pay', signer, deadlineMs: 300 });
    const error: unknown = await client.submit('list', 'add', ['x']).catch((one: unknown) => one);
    expect(error).toMatchObject({ code, message: expect.stringMatching(reason) });
    expect(error).toMatchObject({ message: expect.stringContaining(`no answer from ${gateway}`) });
    await expect(client.get('contracts')).rejects.toMatchObject({
      message: expect.stringMatching(reason),
    });
    await client.close({ now: true });
  }
  await plain.close();
  await secure.close();
});

test('HTTPS with certificates on both sides', async () => {
  const io = realIo();
  const { msp, signer } = await testMsp('BankMSP');
  const { ca, cert, key } = await testServerCertificate('localhost');
  const backends = [new FakeBackend('pay', [msp])];
  const tls = { ca, cert, key };
  const gateway = await startGateway({ io, nodeName: 'n', backends, host: 'localhost', tls });
  expect(gateway.url).toMatch(/^https:\/\/localhost:/);
  const options = { gateways: [gateway.url], channel: 'pay', signer, deadlineMs: 1_000 };

  const client = await connect({ ...options, tls });
  expect((await client.submit('list', 'add', ['x'])).text()).toBe('1');
  await client.close();

  // Without a certificate of its own, or without trust in the gateway's, there is no connection.
  for (const wrong of [{ ca }, { cert, key }]) {
    const refused = await connect({ ...options, tls: wrong });
    await expect(refused.submit('list', 'add', ['y'])).rejects.toMatchObject({
      code: expect.stringMatching(/^(PEER_UNREACHABLE|OUTCOME_UNKNOWN)$/),
    });
    await refused.close({ now: true });
  }
  await gateway.close();
});
