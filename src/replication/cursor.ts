import { createHmac, timingSafeEqual } from 'node:crypto';
import { DaybookError } from '../base/index.ts';

/** What a cursor says: everything before `position` was delivered. */
export interface Cursor {
  readonly channel: string;
  readonly follower: string;
  /** Digest of the subscription that the deliveries went by. */
  readonly subscription: string;
  readonly position: number;
}

const macBytes = 16;

/**
 * A cursor as text. Whoever holds it can resume at any node that has the same key, and cannot alter
 * it.
 */
export function signCursor(cursor: Cursor, key: Uint8Array): string {
  const { channel, follower, subscription, position } = cursor;
  const body = Buffer.from(JSON.stringify([1, channel, follower, subscription, position]));
  return `${body.toString('base64url')}.${mac(body, key).toString('base64url')}`;
}

/**
 * Reads {@link signCursor}'s text.
 *
 * @throws {DaybookError} `CURSOR_INVALID` when it was not made with this key, or for another channel
 *   or follower.
 */
export function verifyCursor(
  text: string,
  key: Uint8Array,
  expected: Pick<Cursor, 'channel' | 'follower'>,
): Cursor {
  const [bodyText = '', macText = ''] = text.split('.', 2);
  const body = Buffer.from(bodyText, 'base64url');
  const given = Buffer.from(macText, 'base64url');
  if (given.length !== macBytes || !timingSafeEqual(given, mac(body, key))) {
    throw new DaybookError('CURSOR_INVALID', 'the cursor is not one of this network', {
      details: { what: 'signature' },
    });
  }
  const [, channel, follower, subscription, position] = JSON.parse(body.toString('utf8')) as [
    number,
    string,
    string,
    string,
    number,
  ];
  if (channel !== expected.channel || follower !== expected.follower) {
    throw new DaybookError('CURSOR_INVALID', 'the cursor belongs to another follower', {
      details: { channel, follower },
    });
  }
  return { channel, follower, subscription, position };
}

function mac(body: Uint8Array, key: Uint8Array): Buffer {
  return createHmac('sha256', key)
    .update('daybook cursor\0')
    .update(body)
    .digest()
    .subarray(0, macBytes);
}
