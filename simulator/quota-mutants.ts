import type { Compare, RequestOp, TxnRequest } from '../src/log/etcd/etcd-api.ts';
import type { Member } from '../src/log/index.ts';
import { gateKey } from './etcd-quota.ts';
import type { Mutant } from './mutant.ts';

const world = { log: 'etcd', workload: 'mixed', retention: true, quota: true } as const;

/** Bugs that show where etcd has no space left. */
export const quotaMutants: readonly Mutant[] = [
  {
    name: 'write-past-the-gate',
    seedsMax: 20,
    shows: 'correctness',
    world,
    needs: ['pauses'],
    member: (member) => changeTxns(member, withoutGate),
  },
  {
    name: 'never-lift-the-alarm',
    seedsMax: 20,
    shows: 'liveness',
    world,
    member: (member) => ({
      ...member,
      call: (name, request, options) => {
        const isLifted = name === 'alarm' && (request as { action: number }).action === 2;
        return member.call(name, isLifted ? { ...request, action: 0 } : request, options);
      },
    }),
  },
];

function changeTxns(member: Member, change: (txn: TxnRequest) => TxnRequest): Member {
  return {
    ...member,
    call: (name, request, options) => {
      const changed = name === 'txn' ? change(request as TxnRequest) : request;
      return member.call(name, changed, options);
    },
  };
}

/** Entries are put though the gate is not there. */
function withoutGate(txn: TxnRequest): TxnRequest {
  const isPast = (compare: Compare): boolean => !(isGate(compare) && compare.result === 1);
  const inner = ({ request_txn, ...op }: RequestOp): RequestOp =>
    request_txn ? { request_txn: withoutGate(request_txn) } : op;
  return { ...txn, compare: txn.compare.filter(isPast), success: txn.success.map(inner) };
}

function isGate(compare: Compare | undefined): boolean {
  return compare?.key.toString('latin1') === gateKey;
}
