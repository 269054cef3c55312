import { X509Certificate } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { IdentityVerifier } from '../model/index.ts';
import { certificateFingerprint, DevelopmentCa } from './dev-ca.ts';

const nowMs = Date.UTC(2024, 0, 1);
let ca: DevelopmentCa;

beforeAll(async () => {
  ca = await DevelopmentCa.create('Org1MSP', nowMs);
});

test('an issued identity signs what the MSP’s verifier accepts', async () => {
  const alice = await ca.issue('alice');
  const verifier = new IdentityVerifier([ca.mspConfig]);
  const message = Buffer.from('pay');
  verifier.checkIdentity(alice.identity, nowMs);
  verifier.checkSignature(alice.identity, message, alice.signer.sign(message));
  const forged = Buffer.from('paid');
  const signature = alice.signer.sign(message);
  expect(() => verifier.checkSignature(alice.identity, forged, signature)).toThrow(
    expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
  );
});

test('a signature that matched is remembered for its message and signer, not for who counts', async () => {
  const [alice, bob] = [await ca.issue('alice'), await ca.issue('bob')];
  const verifier = new IdentityVerifier([ca.mspConfig]);
  const [message, forged] = [Buffer.from('pay'), Buffer.from('paid')];
  const signature = alice.signer.sign(message);
  verifier.checkSignature(alice.identity, message, signature);
  verifier.checkSignature(alice.identity, message, signature);
  const mismatches = [
    () => verifier.checkSignature(alice.identity, forged, signature),
    () => verifier.checkSignature(bob.identity, message, signature),
    () => verifier.checkSignature(alice.identity, message, bob.signer.sign(message)),
  ];
  for (const check of [...mismatches, ...mismatches]) {
    expect(check).toThrow(expect.objectContaining({ code: 'SIGNATURE_INVALID' }));
  }
  const revoked = [certificateFingerprint(alice.certificate)];
  const foreign = await DevelopmentCa.create('Org1MSP', nowMs);
  for (const msp of [{ ...ca.mspConfig, revoked }, foreign.mspConfig]) {
    const other = new IdentityVerifier([msp]);
    expect(() => other.checkSignature(alice.identity, message, signature)).toThrow(
      expect.objectContaining({ code: 'IDENTITY_UNKNOWN' }),
    );
  }
});

test('another authority of the same MSP id is foreign', async () => {
  const other = await DevelopmentCa.create('Org1MSP', nowMs);
  const mallory = await other.issue('alice');
  expect(() => new IdentityVerifier([ca.mspConfig]).checkIdentity(mallory.identity, nowMs)).toThrow(
    expect.objectContaining({ code: 'IDENTITY_UNKNOWN' }),
  );
});

test('a certificate carries name, organisation, role, attributes and validity', async () => {
  const bob = await ca.issue('bob', {
    role: 'admin',
    attributes: { branch: '7' },
    validFromMs: nowMs,
    validToMs: nowMs + 60_000,
  });
  const certificate = new X509Certificate(bob.certificate);
  expect(certificate.subject).toBe('CN=bob\nO=Org1MSP\nOU=admin');
  expect(certificate.ca).toBe(false);
  expect(certificate.raw.toString('latin1')).toContain('{"attrs":{"branch":"7"}}');
  const verifier = new IdentityVerifier([ca.mspConfig]);
  verifier.checkIdentity(bob.identity, nowMs + 60_000);
  for (const timeMs of [nowMs - 1000, nowMs + 61_000]) {
    expect(() => verifier.checkIdentity(bob.identity, timeMs)).toThrow('not valid at that time');
  }
});

test('a revoked certificate no longer counts', async () => {
  const eve = await ca.issue('eve');
  const revoked = [certificateFingerprint(eve.certificate)];
  const verifier = new IdentityVerifier([{ ...ca.mspConfig, revoked }]);
  expect(() => verifier.checkIdentity(eve.identity, nowMs)).toThrow('revoked');
});

test('a loaded authority issues under the same root; a foreign key is refused', async () => {
  const loaded = await DevelopmentCa.load('Org1MSP', ca.root);
  const carol = await loaded.issue('carol');
  new IdentityVerifier([ca.mspConfig]).checkIdentity(carol.identity, nowMs);
  const foreign = { ...ca.root, privateKey: carol.privateKey };
  await expect(DevelopmentCa.load('Org1MSP', foreign)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
});
