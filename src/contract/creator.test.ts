import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { beforeAll, describe, expect, it } from 'vitest';
import { identityBytes } from '../model/index.ts';
import { CreatorCache } from './creator.ts';
import { Harness, sampleOf } from './testing/harness.ts';

async function certificate(attributes: unknown): Promise<string> {
  x509.cryptoProvider.set(globalThis.crypto);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const keys = await globalThis.crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const extensions =
    attributes === undefined
      ? []
      : [
          new x509.Extension(
            '1.2.3.4.5.6.7.8.1',
            false,
            Buffer.from(JSON.stringify({ attrs: attributes })),
          ),
        ];
  const made = await x509.X509CertificateGenerator.create({
    serialNumber: '01',
    subject: 'C=US, O=org1, OU=client, CN=user1',
    issuer: 'C=US, O=org1, CN=ca.org1',
    notBefore: new Date(0),
    notAfter: new Date(4e12),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    publicKey: keys.publicKey,
    signingKey: keys.privateKey,
    extensions,
  });
  return made.toString('pem');
}

describe('ClientIdentity', () => {
  let plain = '';
  let withAttributes = '';

  beforeAll(async () => {
    plain = await certificate(undefined);
    withAttributes = await certificate({ role: 'auditor', 'hf.Affiliation': 'org1', empty: '' });
  });

  it('tells MSP, id, certificate and attributes', async () => {
    const harness = new Harness([
      await sampleOf(`
        async who(ctx) {
          const { clientIdentity: me } = ctx;
          return { msp: me.getMSPID(), id: me.getID(), bytes: me.getIDBytes().toString(), role: me.getAttributeValue('role'), none: me.getAttributeValue('none'),
            empty: me.getAttributeValue('empty'), proto: me.getAttributeValue('__proto__'), builtin: me.getAttributeValue('toString'),
            is: me.assertAttributeValue('role', 'auditor'), isNot: me.assertAttributeValue('role', 'clerk'), noSuch: me.assertAttributeValue('none', 'x') };
        }`),
    ]);
    harness.creator = identityBytes({ mspId: 'Org1MSP', certificate: withAttributes });
    expect(JSON.parse(await harness.result('who'))).toEqual({
      msp: 'Org1MSP',
      id: 'x509::CN=user1,OU=client,O=org1,C=US::CN=ca.org1,O=org1,C=US',
      bytes: withAttributes,
      role: 'auditor',
      none: null,
      empty: null,
      proto: null,
      builtin: null,
      is: true,
      isNot: false,
      noSuch: false,
    });
    harness.creator = identityBytes({ mspId: 'Org2MSP', certificate: plain });
    expect(JSON.parse(await harness.result('who'))).toMatchObject({ msp: 'Org2MSP', role: null });
    harness.creator = identityBytes({ mspId: 'Org2MSP', certificate: 'nonsense' });
    expect(await harness.refusal('who')).toMatch(
      /^CONTRACT_REJECTED: the certificate .* not readable/,
    );
  });

  it('reads certificates once and forgets when there are too many', () => {
    const cache = new CreatorCache();
    const bytes = (mspId: string): string =>
      identityBytes({ mspId, certificate: plain }).toString('latin1');
    const first = cache.facts(bytes('A'));
    expect(cache.facts(bytes('A'))).toBe(first);
    for (let index = 0; index < 1_001; index++)
      cache.facts(identityBytes({ mspId: `${index}`, certificate: '' }).toString('latin1'));
    expect(cache.facts(bytes('A'))).toEqual(first);
    expect(cache.facts(bytes('A'))).not.toBe(first);
  });
});
