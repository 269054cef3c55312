import { toDaybookError } from '../base/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  addressOf,
  decodeEntry,
  decodeRecord,
  indexOf,
  type Outcome,
  type Position,
  type RecordsEntry,
  type TxId,
} from '../model/index.ts';
import { unknownOutcome } from './executor-errors.ts';

/**
 * Gives the outcome of a transaction that was committed before, out of the log.
 *
 * @param position - of its valid record.
 * @param onOutcome - called once; `OUTCOME_UNKNOWN` when the log cannot be read.
 */
export function originalOutcome(
  log: Pick<SharedLog, 'read'>,
  txId: TxId,
  position: Position,
  onOutcome: (outcome: Outcome) => void,
): void {
  log.read(addressOf(position)).then(
    ({ bytes }) => {
      const entry = decodeEntry(bytes) as RecordsEntry;
      const stored = entry.records.find(({ index }) => index === indexOf(position));
      const result = stored === undefined ? '' : decodeRecord(stored.bytes).result;
      onOutcome({ status: 'committed', txId, position, result });
    },
    (error: unknown) => {
      const { code } = toDaybookError(error);
      // It did take effect; only its result is gone with the log's old part.
      if (code === 'LOG_TRIMMED') onOutcome({ status: 'committed', txId, position, result: '' });
      else onOutcome({ status: 'rejected', txId, error: unknownOutcome(txId).toJSON() });
    },
  );
}
