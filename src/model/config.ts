import { DaybookError, limits } from '../base/index.ts';
import type { MspConfig } from './identity.ts';

/**
 * How an executor keeps calls that touch the same keys apart (strict two-phase locking on keys).
 * `transaction`: each transaction holds its locks until it is durable. `batch`: a batch holds its
 * locks until its last write is durable, and goes to the log in one piece. `interleaved`: batch
 * borders are dissolved; the next call sees the writes of one that is still on its way to the log.
 */
export type ExclusiveControl = 'transaction' | 'batch' | 'interleaved';

/** The configuration of a channel. It lies in the log, so every node has the same at each address. */
export interface ChannelConfig {
  readonly channel: string;
  /** 0 for the founding configuration, then one more each time. */
  readonly sequence: number;
  readonly msps: readonly MspConfig[];
  /** MSP ids that may do what the key says. `administer` may change this configuration. */
  readonly access: {
    readonly submit: readonly string[];
    readonly deploy: readonly string[];
    readonly administer: readonly string[];
  };
  readonly exclusiveControl: ExclusiveControl;
  /** A transaction is valid while log time is within `timestampMs ± transactionLifetimeMs`. */
  readonly transactionLifetimeMs: number;
  /** Where chain blocks end; {@link blockRuleDefaults} when absent. */
  readonly blocks?: BlockRule;
  /** When bulk updates are deferred, and how far; {@link bulkRuleDefaults} when absent. */
  readonly bulk?: BulkRule;
  /** What a log on etcd may forget; everything is kept when absent. */
  readonly retention?: LogRetention;
}

/** Which entries may leave the shared log. */
export interface LogRetention {
  /** So many of the newest entries stay in any case. */
  readonly entries: number;
  /** Older ones stay until so many nodes hold them in blocks and in a durable snapshot. */
  readonly holders: number;
  /**
   * Entries that followers still need stay besides, as long as there are no more than this in all;
   * a follower that needs older ones fills its copy anew. Default: ten times `entries`.
   */
  readonly followerEntries?: number;
}

/** Where one chain block ends and the next begins. A function of the log alone. */
export interface BlockRule {
  /** Records in a block. */
  readonly recordsMax: number;
  /** Bytes of the records of a block, as they lie in the log; a larger record stands alone. */
  readonly bytesMax: number;
  /**
   * A block also ends before a valid record that reads what an earlier record of the block wrote.
   * A Fabric peer finds such a read invalid, so only chains cut like this can be followed by one.
   */
  readonly cutBeforeReads: boolean;
}

/** Which bulk updates are heavy. A function of the record and the configuration alone. */
export interface BulkRule {
  /**
   * A bulk update over at least so many rows (counted up to `bulkRowsCountedMax`) is *heavy*: rows
   * take it in the background. Smaller ones, and all when this is above that limit, are *normal*:
   * every replica updates their rows at once.
   */
  readonly heavyRowsMin: number;
  /** The rows of a heavy update enter the state root so many blocks after its own block. */
  readonly switchAfterBlocks: number;
}

/** The rule of a channel whose configuration names none. */
export const bulkRuleDefaults: BulkRule = { heavyRowsMin: 1000, switchAfterBlocks: 100 };

/** The rule of a channel whose configuration names none. */
export const blockRuleDefaults: BlockRule = {
  recordsMax: 1000,
  bytesMax: 4 * 1024 * 1024,
  cutBeforeReads: true,
};

/** What a channel is founded with when nothing else is asked for. */
export const channelConfigDefaults = {
  sequence: 0,
  exclusiveControl: 'interleaved',
  transactionLifetimeMs: 60_000,
} as const satisfies Partial<ChannelConfig>;

/** Canonical JSON: keys in the order of the interface. */
export function encodeChannelConfig(config: ChannelConfig): string {
  return JSON.stringify({
    channel: config.channel,
    sequence: config.sequence,
    msps: config.msps.map((msp) => ({
      mspId: msp.mspId,
      rootCertificates: msp.rootCertificates,
      revoked: msp.revoked ?? [],
    })),
    access: {
      submit: config.access.submit,
      deploy: config.access.deploy,
      administer: config.access.administer,
    },
    exclusiveControl: config.exclusiveControl,
    transactionLifetimeMs: config.transactionLifetimeMs,
    ...(config.blocks === undefined
      ? {}
      : {
          blocks: {
            recordsMax: config.blocks.recordsMax,
            bytesMax: config.blocks.bytesMax,
            cutBeforeReads: config.blocks.cutBeforeReads,
          },
        }),
    ...(config.bulk === undefined
      ? {}
      : {
          bulk: {
            heavyRowsMin: config.bulk.heavyRowsMin,
            switchAfterBlocks: config.bulk.switchAfterBlocks,
          },
        }),
    ...(config.retention === undefined
      ? {}
      : {
          retention: {
            entries: config.retention.entries,
            holders: config.retention.holders,
            ...(config.retention.followerEntries === undefined
              ? {}
              : { followerEntries: config.retention.followerEntries }),
          },
        }),
  });
}

/**
 * Reads and checks a channel configuration.
 *
 * @throws {DaybookError} `CONFIG_INVALID` naming the field.
 */
export function decodeChannelConfig(json: string): ChannelConfig {
  let value: Partial<ChannelConfig>;
  try {
    value = JSON.parse(json) as Partial<ChannelConfig>;
  } catch (cause) {
    throw new DaybookError('CONFIG_INVALID', 'the channel configuration is not JSON', { cause });
  }
  const names = (list: unknown): boolean =>
    Array.isArray(list) && list.every((name) => typeof name === 'string');
  const demand = (field: string, holds: boolean): void => {
    if (!holds) {
      throw new DaybookError('CONFIG_INVALID', `channel configuration: ${field} is not valid`, {
        details: { field },
      });
    }
  };
  demand('configuration', typeof value === 'object' && value !== null);
  demand(
    'channel',
    typeof value.channel === 'string' && /^[a-z][a-z0-9.-]{0,99}$/.test(value.channel),
  );
  demand('sequence', Number.isSafeInteger(value.sequence) && (value.sequence as number) >= 0);
  demand(
    'msps',
    Array.isArray(value.msps) &&
      value.msps.every((msp) => typeof msp?.mspId === 'string' && names(msp.rootCertificates)),
  );
  demand('access.submit', names(value.access?.submit));
  demand('access.deploy', names(value.access?.deploy));
  demand('access.administer', names(value.access?.administer));
  demand(
    'exclusiveControl',
    ['transaction', 'batch', 'interleaved'].includes(value.exclusiveControl as string),
  );
  demand(
    'transactionLifetimeMs',
    Number.isSafeInteger(value.transactionLifetimeMs) &&
      (value.transactionLifetimeMs as number) > 0,
  );
  const { blocks, bulk, retention } = value;
  const positive = (number: unknown): boolean => Number.isSafeInteger(number) && Number(number) > 0;
  demand(
    'blocks',
    blocks === undefined ||
      (Number.isSafeInteger(blocks?.recordsMax) &&
        blocks.recordsMax > 0 &&
        blocks.recordsMax <= limits.recordsPerBlockMax &&
        Number.isSafeInteger(blocks.bytesMax) &&
        blocks.bytesMax > 0 &&
        blocks.bytesMax <= limits.blockRecordBytesMax &&
        typeof blocks.cutBeforeReads === 'boolean'),
  );
  demand(
    'bulk',
    bulk === undefined ||
      (Number.isSafeInteger(bulk?.heavyRowsMin) &&
        bulk.heavyRowsMin >= 0 &&
        Number.isSafeInteger(bulk.switchAfterBlocks) &&
        bulk.switchAfterBlocks >= 0 &&
        bulk.switchAfterBlocks <= limits.bulkSwitchBlocksMax),
  );
  demand(
    'retention',
    retention === undefined ||
      (positive(retention?.entries) &&
        positive(retention.holders) &&
        (retention.followerEntries === undefined || positive(retention.followerEntries))),
  );
  return value as ChannelConfig;
}
