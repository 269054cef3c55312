import {
  CompactEncrypt,
  calculateJwkThumbprint,
  compactDecrypt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
} from 'jose';
import { DaybookError } from '../base/index.ts';

/** A public or private key as JSON (RFC 7517). */
export type FollowerKey = JWK;

/** What an encrypted page is bound to. */
export interface PageBinding {
  readonly channel: string;
  readonly follower: string;
  /** First position that the page covers. */
  readonly from: number;
}

/** Media type of an encrypted page (RFC 7516, compact form). */
export const encryptedMediaType = 'application/jose';

const algorithm = 'ECDH-ES';
const encryption = 'A256GCM';

/** A new key pair of a follower: X25519. Give the network the public half only. */
export async function generateFollowerKey(): Promise<{
  publicKey: FollowerKey;
  privateKey: FollowerKey;
}> {
  const pair = await generateKeyPair(algorithm, { crv: 'X25519', extractable: true });
  const publicKey = await exportJWK(pair.publicKey);
  const privateKey = await exportJWK(pair.privateKey);
  const kid = await calculateJwkThumbprint(publicKey);
  return { publicKey: { ...publicKey, kid }, privateKey: { ...privateKey, kid } };
}

/** The public half of a key. */
export function publicHalf(key: FollowerKey): FollowerKey {
  const { kty, crv, x, y, kid } = key;
  return Object.fromEntries(
    Object.entries({ kty, crv, x, y, kid }).filter(([, value]) => value !== undefined),
  ) as FollowerKey;
}

/**
 * Encrypts one page for one follower (ECDH-ES, AES-256-GCM). It proves nothing about who made the
 * page: that is TLS's part.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT` when it is no public key of this kind.
 */
export async function encryptPage(
  page: string,
  recipient: FollowerKey,
  binding: PageBinding,
): Promise<string> {
  let kid: string;
  let key: Awaited<ReturnType<typeof importJWK>>;
  try {
    kid = await calculateJwkThumbprint(publicHalf(recipient));
    key = await importJWK(publicHalf(recipient), algorithm);
  } catch (cause) {
    throw new DaybookError('INVALID_ARGUMENT', 'not a public key for ECDH-ES', {
      details: { what: 'key' },
      cause,
    });
  }
  return new CompactEncrypt(Buffer.from(page, 'utf8'))
    .setProtectedHeader({ alg: algorithm, enc: encryption, kid, daybook: { ...binding } })
    .encrypt(key);
}

/**
 * Opens {@link encryptPage}'s text with one of the follower's keys: while a key is replaced it has
 * the old and the new one.
 *
 * @throws {DaybookError} `PAGE_ENCRYPTED`: no such key (`details.kid`), bound to something else, or
 *   altered.
 */
export async function decryptPage(
  text: string,
  keys: readonly FollowerKey[],
  expected: Omit<PageBinding, 'from'> & { readonly from: number | undefined },
): Promise<string> {
  let header: ReturnType<typeof decodeProtectedHeader>;
  try {
    header = decodeProtectedHeader(text);
  } catch (cause) {
    throw unopened('the page is not in the form of RFC 7516', {}, cause);
  }
  const kid = header.kid ?? '';
  const bound = header.daybook as Partial<PageBinding> | undefined;
  for (const name of ['channel', 'follower', 'from'] as const) {
    // The first page of a scan begins where the node stands.
    if (expected[name] !== undefined && bound?.[name] !== expected[name]) {
      const details = { kid, expected: expected[name], actual: bound?.[name] };
      throw unopened(`the page is bound to another ${name}`, details);
    }
  }
  for (const key of keys) {
    if ((await calculateJwkThumbprint(publicHalf(key))) !== kid) continue;
    try {
      const opened = await compactDecrypt(text, await importJWK(key, algorithm), {
        keyManagementAlgorithms: [algorithm],
        contentEncryptionAlgorithms: [encryption],
      });
      return Buffer.from(opened.plaintext).toString('utf8');
    } catch (cause) {
      throw unopened('the page was altered', { kid }, cause);
    }
  }
  throw unopened('the page is encrypted for a key that this follower does not have', { kid });
}

function unopened(
  message: string,
  details: Record<string, string | number | undefined>,
  cause?: unknown,
): DaybookError {
  return new DaybookError('PAGE_ENCRYPTED', message, { details, cause });
}
