import type { Bytestring } from '../base/index.ts';
import { asPosition, type CommitRecord, type NamespaceSet } from '../model/index.ts';
import { PendingUpdate, recordedUpdateOf } from '../state/index.ts';

/** Namespaces once and without 0x00; writes ascending; bulk updates that can be carried out. */
export function isWellFormed({ type, sets }: CommitRecord): boolean {
  for (let at = 0; at < sets.length; at++) {
    const { namespace, writes, bulkUpdates } = sets[at] as NamespaceSet;
    if (namespace === '' || namespace.includes('\0')) return false;
    if (bulkUpdates.length > 0 && (type !== 'call' || !areUpdates(namespace, bulkUpdates))) {
      return false;
    }
    for (let other = 0; other < at; other++) {
      if (sets[other]?.namespace === namespace) return false;
    }
    for (let write = 1; write < writes.length; write++) {
      const [before, after] = [writes[write - 1], writes[write]];
      if (before === undefined || after === undefined || before.key >= after.key) return false;
    }
  }
  return true;
}

function areUpdates(namespace: string, bulkUpdates: NamespaceSet['bulkUpdates']): boolean {
  try {
    const at = { position: asPosition(0), txId: new Uint8Array(), timestampMs: 0 };
    const update = recordedUpdateOf([{ namespace, bulkUpdates }], at, 0);
    return update === undefined || new PendingUpdate(update).ranges.every(isOrdered);
  } catch {
    return false;
  }
}

function isOrdered({ start, end }: { start: Bytestring; end: Bytestring }): boolean {
  return start < end;
}
