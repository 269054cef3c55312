import { expect, test } from 'vitest';
import { startGateway } from '../gateway/index.ts';
import { FakeBackend } from '../gateway/testing/fake-backend.ts';
import { testMsp, testServerCertificate } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import { connect } from './index.ts';

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
