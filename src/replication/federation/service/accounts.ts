import { scryptSync, timingSafeEqual } from 'node:crypto';
import { checkLimit, DaybookError } from '../../../base/index.ts';
import type { Io } from '../../../io/index.ts';
import { refusal } from '../core/index.ts';
import type { Tokens } from '../uddi/index.ts';

/** A publisher as it lies in the node's file: the password only as a hash. */
export interface Account {
  readonly name: string;
  /** Base64. */
  readonly salt: string;
  /** scrypt of the password, base64. */
  readonly hash: string;
}

const hashBytes = 32;
const tokenLifetimeMs = 3_600_000;
const nameSyntax = /^[\p{L}\p{N}][\p{L}\p{N}._@ -]{0,127}$/u;

/**
 * Makes an account.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT` for a name that could be taken for a certificate's.
 */
export function newAccount(io: Pick<Io, 'random'>, name: string, password: string): Account {
  if (!nameSyntax.test(name)) {
    throw new DaybookError('INVALID_ARGUMENT', `not a name for a publisher: ${name}`);
  }
  const salt = io.random.bytes(16);
  return {
    name,
    salt: salt.toString('base64'),
    hash: scryptSync(password, salt, hashBytes).toString('base64'),
  };
}

/** Tokens of a node's publishers, in memory: after a restart publishers ask anew. */
export class AccountTokens implements Tokens {
  readonly #io: Pick<Io, 'clock' | 'random'>;
  readonly #accounts: () => Promise<readonly Account[]>;
  readonly #open = new Map<string, { readonly publisher: string; readonly untilMs: number }>();

  constructor(io: Pick<Io, 'clock' | 'random'>, accounts: () => Promise<readonly Account[]>) {
    this.#io = io;
    this.#accounts = accounts;
  }

  async issue(user: string, password: string): Promise<string> {
    const account = (await this.#accounts()).find(({ name }) => name === user);
    // The same work for names that are not there, so that the time does not tell.
    const salt = Buffer.from(account?.salt ?? '', 'base64');
    const given = scryptSync(password, salt, hashBytes);
    const wanted = Buffer.from(account?.hash ?? '', 'base64');
    if (account === undefined || wanted.length !== hashBytes || !timingSafeEqual(given, wanted)) {
      throw refusal('E_unknownUser', 'name or password is wrong');
    }
    const nowMs = this.#io.clock.monotonicMs();
    for (const [token, { untilMs }] of this.#open) if (untilMs < nowMs) this.#open.delete(token);
    try {
      checkLimit('registryTokensMax', this.#open.size + 1);
    } catch {
      throw refusal('E_busy', 'too many publishers are logged in');
    }
    const token = `authToken:${this.#io.random.bytes(24).toString('hex')}`;
    this.#open.set(token, { publisher: user, untilMs: nowMs + tokenLifetimeMs });
    return token;
  }

  publisherOf(token: string): string {
    if (token === '') throw refusal('E_authTokenRequired', 'get one with get_authToken');
    const open = this.#open.get(token);
    if (open === undefined || open.untilMs < this.#io.clock.monotonicMs()) {
      throw refusal('E_authTokenExpired', 'the token is unknown or no longer valid');
    }
    return open.publisher;
  }

  discard(token: string): void {
    this.publisherOf(token);
    this.#open.delete(token);
  }
}
