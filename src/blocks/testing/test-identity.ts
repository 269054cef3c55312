import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  cryptoProvider,
  PemConverter,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { type MspConfig, type Signer, signerFromPem } from '../../model/index.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const validity = { notBefore: new Date('2020-01-01'), notAfter: new Date('2100-01-01') };

/** An MSP with one authority and one member, for tests. */
export async function testIdentity(
  mspId: string,
): Promise<{ msp: MspConfig; signer: Signer; privateKeyPem: string }> {
  cryptoProvider.set(webcrypto as never);
  const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
    webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const [rootKeys, memberKeys] = await Promise.all([newKeys(), newKeys()]);
  const root = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${mspId} root`,
    keys: rootKeys,
    signingAlgorithm: algorithm,
    extensions: [new BasicConstraintsExtension(true, 1, true)],
    ...validity,
  });
  const member = await X509CertificateGenerator.create({
    subject: `CN=member of ${mspId}`,
    issuer: root.subject,
    publicKey: memberKeys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: algorithm,
    ...validity,
  });
  const key = await webcrypto.subtle.exportKey('pkcs8', memberKeys.privateKey);
  const privateKeyPem = PemConverter.encode(key, 'PRIVATE KEY');
  const identity = { mspId, certificate: member.toString('pem') };
  return {
    msp: { mspId, rootCertificates: [root.toString('pem')] },
    signer: signerFromPem(identity, privateKeyPem),
    privateKeyPem,
  };
}
