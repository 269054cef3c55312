import type { Context } from 'fabric-contract-api';
import type { Request, Row, Step } from '../../../../src/replication/federation/core/step.ts';

/** Runs a step of the registry's protocol on the state of a contract, within its transaction. */
export async function runStep<T>(ctx: Context, step: Step<T>): Promise<T> {
  let turn = step.next();
  while (turn.done !== true) turn = step.next(await answer(ctx, turn.value));
  return turn.value;
}

async function answer(ctx: Context, request: Request): Promise<unknown> {
  switch (request.type) {
    case 'get': {
      const stored = await ctx.stub.getState(request.key);
      return stored.length === 0 ? undefined : JSON.parse(Buffer.from(stored).toString());
    }
    case 'put':
      return await ctx.stub.putState(request.key, Buffer.from(JSON.stringify(request.value)));
    case 'delete':
      return await ctx.stub.deleteState(request.key);
    case 'range': {
      const found: Row[] = [];
      if (request.limit === 0) return found;
      for await (const { key, value } of ctx.stub.getStateByRange(request.start, request.end)) {
        found.push({ key, value: JSON.parse(Buffer.from(value).toString()) });
        if (found.length === request.limit) break;
      }
      return found;
    }
  }
}
