import { createHash } from 'node:crypto';
import { type Identity, lowS, type MspConfig, type Signer } from '../src/model/index.ts';

/*
 * The one organisation of simulated networks. Ordinary ECDSA signatures differ from run to run, so
 * this signer uses the constant 1 as its secret number: the signatures are right, equal in every
 * run and cheap, and would give the key away, which is no secret here.
 */

const rootCertificate = `-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUNvh+TX+MB37tBpr2v/cIRBKq1+QwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJT3JnMSByb290MCAXDTI2MTEyMTAxMzA0OVoYDzIxMDkwMTEw
MDEzMDQ5WjAUMRIwEAYDVQQDDAlPcmcxIHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQD1YM+BcpzcC5bp5u9sv5rAaFa0GMpTIcqIS2qyEx5zFVNdSCZocuA
n5GwionoUjZo5voRLyDXAD6icuaua+BDo1MwUTAdBgNVHQ4EFgQUu4SaD7Va+0jE
9uZPI3itYnQuKoYwHwYDVR0jBBgwFoAUu4SaD7Va+0jE9uZPI3itYnQuKoYwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAwE3Hqmm4xzNAMYFwZn8W
5Qu3CjV3KB3Mu9oKbFFkcYcCIQCGTsMUICc0LKWGLkJBw4irkn0iRlu7u4+Pbz5d
UgClFQ==
-----END CERTIFICATE-----
`;

const memberCertificate = `-----BEGIN CERTIFICATE-----
MIIBIDCByAIULp19YoRotO+yeY1m8JqdmPjXqg8wCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJT3JnMSByb290MCAXDTI2MTEyMTAxMzA0OVoYDzIxMDkwMTEwMDEzMDQ5
WjARMQ8wDQYDVQQDDAZtZW1iZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR2
awPSbnMj6+aHS+faH4QIpVM0mx01oFhDyPLCh7rFrbZQVxmV2+aPu3nWVfMjENjZ
DhFU0LxTK6Q3pm6B8GWgMAoGCCqGSM49BAMCA0cAMEQCIAmn6zefbA36+L4Pa9YQ
UnGn7ajg0bCSNB4nPZflkcNCAiA0N1ruwTIuDyJUYI8y55WCRUfaabFJRNtN66nV
ix38Gw==
-----END CERTIFICATE-----
`;

const privateKey = 0xb77e4dfefd90135a6316570ebc25295b5d041f60b8d2c929950dc338849897b8n;
const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
/** Abscissa of the curve's generator: the first half of every signature. */
const r = 0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296n;

/** The organisation that simulated channels trust. */
export const simulatedMsp: MspConfig = { mspId: 'Org1', rootCertificates: [rootCertificate] };

/** Its member. */
export const simulatedSigner: Signer = constantSigner(
  { mspId: 'Org1', certificate: memberCertificate },
  privateKey,
);

/** Signs with the constant 1 as its secret number. */
export function constantSigner(identity: Identity, key: bigint): Signer {
  return {
    identity,
    sign: (message) => {
      const hash = BigInt(`0x${createHash('sha256').update(message).digest('hex')}`);
      const body = Buffer.concat([integer(r), integer((hash + r * key) % order)]);
      return lowS(Buffer.concat([Buffer.of(0x30, body.length), body]));
    },
  };
}

/** DER. */
function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  const positive = (bytes[0] as number) < 0x80 ? bytes : Buffer.concat([Buffer.of(0), bytes]);
  return Buffer.concat([Buffer.of(0x02, positive.length), positive]);
}
