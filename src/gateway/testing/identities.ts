import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { type MspConfig, type Signer, signerFromPem } from '../../model/index.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** An MSP with one authority and one member, for tests. */
export async function testMsp(mspId: string): Promise<{ msp: MspConfig; signer: Signer }> {
  const provider = webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0];
  x509.cryptoProvider.set(provider);
  const keys = (): Promise<webcrypto.CryptoKeyPair> =>
    webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const rootKeys = await keys();
  const validity = { notBefore: new Date('2020-01-01'), notAfter: new Date('2100-01-01') };
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${mspId} root`,
    keys: rootKeys,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
    ...validity,
  });
  const memberKeys = await keys();
  const member = await x509.X509CertificateGenerator.create({
    subject: 'CN=member',
    issuer: root.subject,
    publicKey: memberKeys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: algorithm,
    ...validity,
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', memberKeys.privateKey);
  const identity = { mspId, certificate: member.toString('pem') };
  return {
    msp: { mspId, rootCertificates: [root.toString('pem')] },
    signer: signerFromPem(identity, x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')),
  };
}
