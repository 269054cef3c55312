import type { MspConfig, Signer } from '../src/model/index.ts';
import { constantSigner } from './identity.ts';

/*
 * Identities of nodes, in worlds where they compare their states: there every node needs a voice of
 * its own. As in `identity.ts`, these keys are no secret.
 */

const rootCertificate = `-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIULsB7HRAaT/otF992LDmP1fZBT6swCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKUGVlcnMgcm9vdDAgFw0yNjExMjExMzEyNDdaGA8yMTA5MDEx
MDEzMTI0N1owFTETMBEGA1UEAwwKUGVlcnMgcm9vdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABOXPwY1IVnrmhk4oRqbzq6AsGLVtBn1vzgMfHh5Lj7zgOO9ks+hw
N/xCDalxhmgwYxH2nFDsdYu+/X+mMb9G9OyjUzBRMB0GA1UdDgQWBBQBKNvIPiHV
Eui8VmwO2ddlYysm8TAfBgNVHSMEGDAWgBQBKNvIPiHVEui8VmwO2ddlYysm8TAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCTVsBqMtb8QLAq8PnP
0G8+Sk04VOwO5Q/5oYGQeDOW6gIgcux8FTvqAHRCZudn9HaI07/oReKH92hOLiBh
aSF/uu4=
-----END CERTIFICATE-----
`;

const peers: readonly { readonly certificate: string; readonly key: bigint }[] = [
  {
    key: 0x40e7dd78c7be73692edd48306103d5540818ef70a51f99eeda5d484a712cdc96n,
    certificate: `-----BEGIN CERTIFICATE-----
MIIBIDCByAIUdy+z2s/gy0utGNsHFSP4dAWOP6owCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKUGVlcnMgcm9vdDAgFw0yNjExMjExMzEyNDdaGA8yMTA5MDExMDEzMTI0
N1owEDEOMAwGA1UEAwwFcGVlcjAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQO
LzC92CG7f3xHsF6y5eGLaEnxH3/og0wgSxKGkMHJO2q2jSintuCumsQ6B3+yARrG
vib+B5z+8pioxW77/bt2MAoGCCqGSM49BAMCA0cAMEQCIAxf3MSWeJGIWtB2awV1
xhd7NJ1TmRJ0vWYr4jOUHDomAiB1RHVdSy2J3DRKi2Qy+zQrv9iNYa+5qDocZZ/a
OGI8rA==
-----END CERTIFICATE-----
`,
  },
  {
    key: 0xddb6d3dcb2e88d06fc3a9d73f3cfd5b0c8174f234adc2fb213be643712b9512dn,
    certificate: `-----BEGIN CERTIFICATE-----
MIIBITCByAIUdy+z2s/gy0utGNsHFSP4dAWOP6swCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKUGVlcnMgcm9vdDAgFw0yNjExMjExMzEyNDdaGA8yMTA5MDExMDEzMTI0
N1owEDEOMAwGA1UEAwwFcGVlcjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARn
ftVCiiNpHNZeiMYotDbqivpyRi40YMXebW6s0qVnmE1SMeHQlIx8k+5sVMwcb9gh
GnIicatfIYJzUTiExMI2MAoGCCqGSM49BAMCA0gAMEUCIQDrs+2qFzQ8Ka4aaSqE
Bb3HyMcLIBNAzrBZyKinKxeZ4gIgLX2BBVnajsubyRSOeDzhSEtIvEcBw7J1S9oV
xmo9dQA=
-----END CERTIFICATE-----
`,
  },
  {
    key: 0x7b5b4151f45c0bfacfec2ed8c99645df03e4993482388e90e71e846689e4ea20n,
    certificate: `-----BEGIN CERTIFICATE-----
MIIBIDCByAIUdy+z2s/gy0utGNsHFSP4dAWOP6wwCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKUGVlcnMgcm9vdDAgFw0yNjExMjExMzEyNDdaGA8yMTA5MDExMDEzMTI0
N1owEDEOMAwGA1UEAwwFcGVlcjIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARW
vvk29a5558J6RzdwfR1Qqw4P3+GL3T3LxNZqXRVCJqxy9XaD3BTAO+mqXbgYDI1P
9r9Nky9fwm6XVqr89w44MAoGCCqGSM49BAMCA0cAMEQCIAtBNAqMZ6qnrgx+efUi
760mo8czgQjfqQGIspv4GzpNAiAf7GN7igUocn6ZoU+bd3y7jG83b+TgJ+RVhPH8
mUr7QA==
-----END CERTIFICATE-----
`,
  },
];

/** So many nodes have an identity. */
export const peersMax: number = peers.length;

/** The organisation of the nodes. */
export const peersMsp: MspConfig = { mspId: 'Peers', rootCertificates: [rootCertificate] };

/** What a node signs its blocks and statements with. */
export function peerSigner(number: number): Signer {
  const peer = peers[number];
  if (peer === undefined) throw new Error(`there is no identity for node ${number}`);
  return constantSigner({ mspId: 'Peers', certificate: peer.certificate }, peer.key);
}
