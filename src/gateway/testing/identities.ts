import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { type MspConfig, type Signer, signerFromPem } from '../../model/index.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

const validity = { notBefore: new Date('2020-01-01'), notAfter: new Date('2100-01-01') };

interface Root {
  readonly certificate: x509.X509Certificate;
  readonly privateKey: webcrypto.CryptoKey;
}

async function makeRoot(name: string): Promise<Root> {
  x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name,
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(true, 1, true)],
    ...validity,
  });
  return { certificate, privateKey: keys.privateKey };
}

async function makeMember(
  root: Root,
  subject: string,
  extensions: x509.Extension[] = [],
): Promise<{ cert: string; key: string }> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: root.certificate.subject,
    publicKey: keys.publicKey,
    signingKey: root.privateKey,
    signingAlgorithm: algorithm,
    extensions,
    ...validity,
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    cert: certificate.toString('pem'),
    key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'),
  };
}

/** An MSP with one authority and one member, for tests. */
export async function testMsp(mspId: string): Promise<{ msp: MspConfig; signer: Signer }> {
  const root = await makeRoot(`CN=${mspId} root`);
  const { cert, key } = await makeMember(root, 'CN=member');
  return {
    msp: { mspId, rootCertificates: [root.certificate.toString('pem')] },
    signer: signerFromPem({ mspId, certificate: cert }, key),
  };
}

/** A server's key and certificate for a host name, both PEM, and the authority that issued it. */
export async function testServerCertificate(
  host: string,
): Promise<{ ca: string; cert: string; key: string }> {
  const root = await makeRoot('CN=tls root');
  const member = await makeMember(root, `CN=${host}`, [
    new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: host }]),
  ]);
  return { ca: root.certificate.toString('pem'), ...member };
}
