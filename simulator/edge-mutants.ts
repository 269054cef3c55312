import { isDaybookError } from '../src/base/index.ts';
import type { BlockBackend } from '../src/blocks/index.ts';
import type { CallOptions, Client, Transport } from '../src/client/index.ts';
import { asAddress, decodeBatch, signBatch } from '../src/model/index.ts';
import type { Outbox, SourceLedger } from '../src/replication/index.ts';
import type { Cluster } from './cluster.ts';
import { simulatedSigner } from './identity.ts';
import type { Mutant } from './mutant.ts';
import type { SourceChange } from './source-model.ts';

const impatientMs = 15;

/** Bugs at the edges of a ledger: in the library that clients use, in what makes blocks, in sources. */
export const edgeMutants: readonly Mutant[] = [
  {
    name: 'sign-anew-on-retry',
    seedsMax: 10,
    needs: ['network', 'crashes'],
    transport: signingAnew,
  },
  {
    name: 'submit-again-what-stays-unknown',
    seedsMax: 20,
    shows: 'correctness',
    needs: ['network', 'pauses'],
    sdk: (client) =>
      withSubmit(client, async (contract, functionName, args = [], options = {}) => {
        try {
          const impatient = { ...options, deadlineMs: impatientMs };
          return await client.submit(contract, functionName, args, impatient);
        } catch (error) {
          // Right for whatever was not done, and wrong for `OUTCOME_UNKNOWN`.
          if (!isDaybookError(error) || error.retry !== 'same') throw error;
          return await client.submit(contract, functionName, args, options);
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
  {
    name: 'go-on-behind-a-torn-block',
    seedsMax: 20,
    needs: ['crashes', 'power'],
    blocks: goingOn,
  },
  {
    // As one does who takes the numbers of rows for the order of commits.
    name: 'read-an-outbox-by-number',
    seedsMax: 10,
    source: { outbox: byNumber },
  },
  {
    name: 'forget-a-row-before-it-is-confirmed',
    seedsMax: 20,
    needs: ['network', 'crashes'],
    source: {
      ledger: (ledger) => ({
        submit: (...call) => ledger.submit(...call).catch(() => undefined),
      }),
    },
  },
  {
    name: 'number-a-row-anew-after-a-lost-answer',
    seedsMax: 20,
    needs: ['network', 'pauses'],
    source: { ledger: numberingAnew },
  },
];

/** The greatest number of an outbox that was read. */
const readTo = new WeakMap<Cluster, number>();

function byNumber(outbox: Outbox, cluster: Cluster): Outbox {
  return {
    read: async (...query) => {
      const last = readTo.get(cluster) ?? 0;
      const rows = (await outbox.read(...query)).filter(({ seq }) => Number(seq) > last);
      readTo.set(cluster, Math.max(last, ...rows.map(({ seq }) => Number(seq))));
      return rows;
    },
    remove: (seqs) => outbox.remove(seqs),
    close: () => outbox.close(),
  };
}

/** What may have taken effect is sent again as if it were another change. */
function numberingAnew(ledger: SourceLedger): SourceLedger {
  return {
    submit: async (contract, functionName, [source = '', changes = '[]'], options) => {
      try {
        return await ledger.submit(contract, functionName, [source, changes], options);
      } catch {
        const anew = (JSON.parse(changes) as SourceChange[]).map((change) => ({
          ...change,
          revision: change.revision + 0.5,
        }));
        return await ledger.submit(contract, functionName, [source, JSON.stringify(anew)], options);
      }
    },
  };
}

/** The entry that each node's generator was handed last. */
const handedIn = new WeakMap<Cluster, Map<string, number>>();

/** After a restart it begins where it was, though the block that it was at is not on the disk. */
function goingOn(backend: BlockBackend, node: string, cluster: Cluster): BlockBackend {
  const last = handedIn.get(cluster) ?? new Map<string, number>();
  handedIn.set(cluster, last);
  const push: BlockBackend['push'] = (entries) => {
    const address = entries.at(-1)?.address;
    if (address !== undefined) last.set(node, address);
    return backend.push(entries);
  };
  const next = Math.max((last.get(node) ?? -1) + 1, backend.nextAddress);
  return { ...backend, nextAddress: asAddress(next), push };
}

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
