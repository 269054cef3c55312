'use strict';

const { Contract } = require('fabric-contract-api');

/**
 * Entities of outside databases, one key each, with the content that the source gave. A change takes
 * effect once and never after a newer one of the same entity, however often and in whatever order
 * changes arrive: the last revision of every entity is kept under a composite key, also after the
 * entity is gone.
 */
class Capture extends Contract {
  constructor() {
    super('Capture');
  }

  /**
   * Applies the changes of one transaction of a source: JSON of
   * `[{ entity, revision, content }, …]`; `content` is a text, or null when the entity is gone.
   * Returns how many took effect.
   */
  async apply(ctx, source, changes) {
    let applied = 0;
    for (const { entity, revision, content } of JSON.parse(changes)) {
      const revisionKey = ctx.stub.createCompositeKey('revision', [source, entity]);
      const known = (await ctx.stub.getState(revisionKey)).toString();
      if (known !== '' && Number(known) >= revision) continue;
      await ctx.stub.putState(revisionKey, Buffer.from(String(revision)));
      if (content === null) await ctx.stub.deleteState(entity);
      else await ctx.stub.putState(entity, Buffer.from(content));
      applied++;
    }
    return applied;
  }

  /** The content of an entity; empty when it is not there. */
  async read(ctx, entity) {
    return (await ctx.stub.getState(entity)).toString();
  }
}

module.exports.contracts = [Capture];
