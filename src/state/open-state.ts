import { DaybookError, toDaybookError } from '../base/index.ts';
import { BulkWork } from './bulk/index.ts';
import { HistoryFile } from './history.ts';
import { openLmdbStore } from './lmdb-store.ts';
import { bulkDirectory, State, type StateOptions } from './replica-state.ts';
import { isTrusted, markRunning } from './state-directory.ts';
import { newSalt, TransactionIndex } from './transaction-index.ts';

/**
 * Opens the state of one replica, or an empty one. A state that cannot be trusted (the machine went
 * down while it was open, or it is damaged) is discarded: it starts empty, to be filled again from
 * a snapshot or the log.
 */
export async function openState(options: StateOptions): Promise<State> {
  const { disk } = options.io;
  const { directory } = options;
  await disk.makeDirectory(directory);
  const discard = async (): Promise<void> => {
    if (options.store !== undefined) {
      throw new DaybookError('STATE_DAMAGED', 'the given store does not fit the directory');
    }
    await disk.remove(directory);
    await disk.makeDirectory(directory);
  };
  if (!(await isTrusted(disk, directory))) await discard();
  await markRunning(disk, directory);
  try {
    return await openParts(options);
  } catch (error) {
    if (toDaybookError(error).code !== 'STATE_DAMAGED' || options.store !== undefined) throw error;
    await discard();
    await markRunning(disk, directory);
    return await openParts(options);
  }
}

async function openParts(options: StateOptions): Promise<State> {
  const { directory } = options;
  const { disk } = options.io;
  await disk.makeDirectory(`${directory}/rows`);
  await disk.makeDirectory(`${directory}/transactions`);
  const openStore =
    options.openStore ?? (() => openLmdbStore(directory, () => disk.availableBytes(directory)));
  const store = options.store ?? openStore(directory);
  try {
    const { meta } = store;
    const history = await HistoryFile.open(disk, `${directory}/history`, meta?.historyBytes ?? 0);
    const transactions = await TransactionIndex.open(
      disk,
      `${directory}/transactions`,
      meta?.transactions,
      meta?.horizonMs ?? 0,
      {
        salt: newSalt(options.io.random),
        ...(options.transactionRetentionMs === undefined
          ? {}
          : { retentionMs: options.transactionRetentionMs }),
        ...(options.transactionSegmentIdsMax === undefined
          ? {}
          : { segmentIdsMax: options.transactionSegmentIdsMax }),
      },
    );
    const saved = meta?.bulkUpdates ?? [];
    const keepsRows = options.keepsUpdatedRows ?? true;
    const bulk = await BulkWork.open(disk, bulkDirectory(directory), saved, keepsRows);
    return new State(options, { store, history, transactions, bulk });
  } catch (error) {
    await store.close();
    throw error;
  }
}
