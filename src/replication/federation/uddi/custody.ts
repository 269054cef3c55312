import {
  custodianOf,
  get,
  put,
  type Row,
  refusal,
  remove,
  rows,
  rowsUnder,
  type Step,
  type StoredEntity,
  transfer,
} from '../core/contract-core.ts';

/*
 * Custody: whoever has an entity asks its node for a token, and gives it, outside the registry, to
 * whoever shall have it; that one shows it to a node of its own, and this one to the first. On the
 * ledger lies only the token's hash, since everybody reads the ledger.
 */

/** Tokens that can be open at once. */
export const transferTokensMax = 1_000;
/** Keys that go over with one token. */
export const transferKeysMax = 100;

interface Offer {
  readonly keys: readonly string[];
  readonly publisher: string;
  readonly expiresMs: number;
}

const offerRow = (hash: string): string => `transfer|${hash}`;

/**
 * Notes a token for entities of a publisher.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_userMismatch`, `E_invalidKeyPassed`, `E_busy`)
 */
export function* offerTransfer(
  self: string,
  hash: string,
  offer: Offer,
  nowMs: number,
): Step<void> {
  if (offer.keys.length === 0 || offer.keys.length > transferKeysMax) {
    throw refusal('E_tooManyOptions', `1 to ${transferKeysMax} keys go with a token`);
  }
  for (const key of offer.keys) {
    const stored = yield* get<StoredEntity>(rows.entity(key));
    if (stored === undefined || stored.deletedMs !== undefined) {
      throw refusal('E_invalidKeyPassed', `${key} is no businessEntity or tModel`, { key });
    }
    if ((yield* custodianOf(stored)) !== self || stored.entity.publisher !== offer.publisher) {
      throw refusal('E_userMismatch', `${key} is not yours`, { key });
    }
  }
  let open = 0;
  for (const { key, value } of yield* rowsUnder('transfer|', transferTokensMax)) {
    if ((value as Offer).expiresMs < nowMs) yield* remove(key);
    else open++;
  }
  if (open >= transferTokensMax) throw refusal('E_busy', 'too many transfers are open');
  yield* put(offerRow(hash), offer);
}

/**
 * Hands over what a token stands for.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_transferNotAllowed`)
 */
export function* acceptTransfer(
  hash: string,
  keys: readonly string[],
  to: { readonly node: string; readonly publisher: string },
  nowMs: number,
): Step<void> {
  const offer = yield* get<Offer>(offerRow(hash));
  if (offer === undefined || offer.expiresMs < nowMs) {
    throw refusal('E_transferNotAllowed', 'the token is unknown or no longer valid');
  }
  const same = [...keys].sort().join() === [...offer.keys].sort().join();
  if (!same) throw refusal('E_transferNotAllowed', 'the token is for other keys');
  for (const key of keys) yield* transfer(key, offer.publisher, to, nowMs);
  yield* remove(offerRow(hash));
}

/** Makes a token invalid, or all tokens for any of these keys. */
export function* discardTransfer(
  publisher: string,
  what: { readonly hash: string } | { readonly keys: readonly string[] },
): Step<void> {
  const open: readonly Row[] = yield* rowsUnder('transfer|', transferTokensMax);
  for (const { key, value } of open) {
    const offer = value as Offer;
    if (offer.publisher !== publisher) continue;
    const meant =
      'hash' in what
        ? key === offerRow(what.hash)
        : offer.keys.some((one) => what.keys.includes(one));
    if (meant) yield* remove(key);
  }
}
