import { assertingBusiness } from './assertion-key.ts';
import { holderOf } from './entities.ts';
import { successorOf } from './key-space.ts';
import type { StoredEntity } from './rows.ts';
import type { Step } from './step.ts';

/** The node that may change an entity. An assertion goes with the business at whose side it stands. */
export function* custodianOf(stored: StoredEntity): Step<string> {
  const { entity } = stored;
  if (entity.kind !== 'assertion') return yield* successorOf(entity.owner);
  const business = yield* holderOf(assertingBusiness(entity.key) ?? '');
  return yield* successorOf(business?.entity.owner ?? entity.owner);
}

/** The publisher who may change an entity. */
export function* publisherOf(stored: StoredEntity): Step<string> {
  const { entity } = stored;
  if (entity.kind !== 'assertion') return entity.publisher;
  const business = yield* holderOf(assertingBusiness(entity.key) ?? '');
  return business?.entity.publisher ?? entity.publisher;
}
