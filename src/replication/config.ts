import { isAbsolute, join } from 'node:path';
import type pg from 'pg';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { FollowerKey } from './encryption.ts';
import type { FollowerOptions } from './follower.ts';
import { postgresSink } from './sinks/postgres.ts';
import type { Sink } from './sinks/sink.ts';
import { sqliteSink } from './sinks/sqlite.ts';
import { webhookSink } from './sinks/webhook.ts';
import type { SourceTable } from './sources/outbox-sql.ts';

/** Where a follower writes. Relative files lie beside the configuration. */
export type SinkConfig =
  | {
      readonly kind: 'postgres';
      readonly connection: string | pg.ClientConfig;
      readonly durable?: boolean;
    }
  | { readonly kind: 'sqlite'; readonly file: string }
  | {
      readonly kind: 'webhook';
      readonly url: string;
      readonly secret: string;
      /** For the cursor. */
      readonly file: string;
    };

/** What the file of `daybook follow --config` exports as `follower`. */
export interface FollowerConfig
  extends Pick<
    FollowerOptions,
    'name' | 'subscription' | 'tables' | 'processor' | 'policy' | 'changesMax'
  > {
  readonly sink: SinkConfig;
  /** Private keys, the current one first: pages are then encrypted for them. */
  readonly keys?: readonly FollowerKey[];
}

/** What the file of `daybook source` exports as `source`. */
export interface SourceConfig {
  readonly name: string;
  readonly connection: string | pg.ClientConfig;
  readonly tables: readonly SourceTable[];
  /** The contract that takes the changes. Default `capture`. */
  readonly contract?: string;
}

/** Gives a follower's configuration its type. */
export function defineFollower(config: FollowerConfig): FollowerConfig {
  return config;
}

/** Gives a source's configuration its type. */
export function defineSource(config: SourceConfig): SourceConfig {
  return config;
}

/**
 * Makes the sink of a configuration.
 *
 * @param directory - absolute; where relative files lie.
 * @throws {DaybookError} `CONFIG_INVALID`
 */
export function makeSink(
  config: Pick<FollowerConfig, 'name' | 'sink' | 'tables'>,
  io: Pick<Io, 'clock' | 'disk'>,
  directory: string,
): Sink {
  const { name: follower, sink, tables = [] } = config;
  const path = (file: string): string => (isAbsolute(file) ? file : join(directory, file));
  switch (sink.kind) {
    case 'postgres':
      return postgresSink({ ...sink, follower, tables });
    case 'sqlite':
      return sqliteSink({ follower, tables, file: path(sink.file) });
    case 'webhook':
      return webhookSink({ ...sink, io, follower, file: path(sink.file) });
    default:
      throw new DaybookError('CONFIG_INVALID', 'sink.kind is postgres, sqlite or webhook', {
        details: { what: 'sink.kind' },
      });
  }
}
