import { isDaybookError } from '../src/base/index.ts';
import type { CallOptions, Client, Transport } from '../src/client/index.ts';
import { decodeBatch, signBatch } from '../src/model/index.ts';
import { simulatedSigner } from './identity.ts';
import type { Mutant } from './mutant.ts';

/** Bugs at the edges of a ledger: in the library that clients use. */
export const edgeMutants: readonly Mutant[] = [
  {
    name: 'sign-anew-on-retry',
    seedsMax: 10,
    needs: ['network', 'crashes'],
    transport: signingAnew,
  },
  {
    name: 'submit-again-what-stays-unknown',
    seedsMax: 40,
    needs: ['network', 'pauses'],
    sdk: (client) =>
      withSubmit(client, async (...call) => {
        try {
          return await client.submit(...call);
        } catch (error) {
          if (!isDaybookError(error, 'OUTCOME_UNKNOWN')) throw error;
          return await client.submit(...call);
        }
      }),
  },
  {
    name: 'forget-ordering-keys',
    seedsMax: 10,
    needs: ['crashes'],
    sdk: (client) =>
      withSubmit(client, (contract, functionName, args = [], options: CallOptions = {}) =>
        client.submit(contract, functionName, args, { ...options, orderingKey: '' }),
      ),
  },
];

/** What was sent before is sent as other transactions. */
function signingAnew(transport: Transport): Transport {
  const sent = new Set<string>();
  return {
    send: (gateway, attempt) => {
      const { channel, batchId, items } = decodeBatch(attempt.bytes);
      const ids = items.map(({ txId }) => Buffer.from(txId).toString('hex'));
      const isRetry = ids.some((id) => sent.has(id));
      for (const id of ids) sent.add(id);
      if (attempt.door !== 'batches' || !isRetry) return transport.send(gateway, attempt);
      const calls = items.map(({ transaction, orderingKey }) => {
        const nonce = Buffer.from(transaction.nonce);
        nonce[0] = (nonce[0] as number) ^ 1;
        // Of a received transaction these are no fields, but views made on demand.
        const { args } = transaction;
        return { transaction: { ...transaction, args, nonce }, orderingKey };
      });
      const { bytes } = signBatch(simulatedSigner, channel, batchId, calls);
      return transport.send(gateway, { ...attempt, bytes });
    },
    post: (...question) => transport.post(...question),
    getJson: (...question) => transport.getJson(...question),
    lines: (...question) => transport.lines(...question),
    close: () => transport.close(),
  };
}

function withSubmit(client: Client, submit: Client['submit']): Client {
  return new Proxy(client, {
    get: (target, name) => {
      if (name === 'submit') return submit;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
