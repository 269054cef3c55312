import { DaybookError, limits } from '../../base/index.ts';

/** How to reach one etcd cluster, which serves as one log unit. */
export interface UnitOptions {
  /** `host:port` of every member's client address. */
  readonly endpoints: readonly string[];
}

/** PEM texts. Without `certificate` and `key` the client does not authenticate itself by TLS. */
export interface TlsOptions {
  readonly ca?: Uint8Array;
  readonly certificate?: Uint8Array;
  readonly key?: Uint8Array;
}

/** Settings of a log on etcd. The same units, prefix and quota belong on every node. */
export interface EtcdLogOptions {
  /**
   * The units that found the log, and later any units of it to start from: the layout stored in
   * etcd then tells which ones are in use.
   */
  readonly units: readonly UnitOptions[];
  /** Keys begin with this; one per channel. Default `daybook/`. */
  readonly prefix?: string;
  /** TLS to every unit; plain connections when left out. */
  readonly tls?: TlsOptions;
  /** User and password of etcd's own access control. */
  readonly credentials?: { readonly user: string; readonly password: string };
  /** `--quota-backend-bytes` of the members. Default: `logSpaceBytes`. */
  readonly quotaBytes?: number;
  /** Share of the quota from which on writers are slowed down with `OVERLOADED`. Default 0.8. */
  readonly spaceHighRatio?: number;
  /** After this time without an answer another member is asked, milliseconds. Default 1500. */
  readonly attemptTimeoutMs?: number;
  /** After this time a call fails with `TIMEOUT`, milliseconds. Default 30,000. */
  readonly callTimeoutMs?: number;
  /** True: a log that is not there is an error, not founded. Default false. */
  readonly mustExist?: boolean;
  /** A follower that saw nothing for so long checks that it missed nothing. Default 1000. */
  readonly followCheckMs?: number;
  /** A reconfiguration left half done is finished by others after this time. Default 3000. */
  readonly reconfigureTimeoutMs?: number;
}

/** {@link EtcdLogOptions} with the defaults filled in. */
export interface Settings extends Required<Omit<EtcdLogOptions, 'tls' | 'credentials'>> {
  readonly tls: TlsOptions | undefined;
  readonly credentials: { readonly user: string; readonly password: string } | undefined;
}

/** @throws {DaybookError} `CONFIG_INVALID` */
export function withDefaults(options: EtcdLogOptions): Settings {
  if (options.units.length === 0 || options.units.some((unit) => unit.endpoints.length === 0)) {
    throw new DaybookError('CONFIG_INVALID', 'the log on etcd needs at least one endpoint');
  }
  if (options.units.length > limits.logUnitsMax) {
    throw new DaybookError('CONFIG_INVALID', `at most ${limits.logUnitsMax} log units`);
  }
  return {
    units: options.units,
    prefix: options.prefix ?? 'daybook/',
    tls: options.tls,
    credentials: options.credentials,
    quotaBytes: options.quotaBytes ?? limits.logSpaceBytes,
    spaceHighRatio: options.spaceHighRatio ?? 0.8,
    attemptTimeoutMs: options.attemptTimeoutMs ?? 1500,
    callTimeoutMs: options.callTimeoutMs ?? 30_000,
    mustExist: options.mustExist ?? false,
    followCheckMs: options.followCheckMs ?? 1000,
    reconfigureTimeoutMs: options.reconfigureTimeoutMs ?? 3000,
  };
}

/**
 * Units from `etcd://host:port,host:port;host:port/PREFIX`: commas between the members of a unit,
 * semicolons between units; the prefix may be left out. `etcds://` asks for TLS.
 *
 * @throws {DaybookError} `CONFIG_INVALID`
 */
export function parseEtcdUrl(url: string): Pick<EtcdLogOptions, 'units' | 'prefix' | 'tls'> {
  const match = /^etcd(s?):\/\/([^/]+)(?:\/(.*))?$/.exec(url);
  const units = (match?.[2] ?? '').split(';').map((unit) => ({ endpoints: unit.split(',') }));
  const endpoints = units.flatMap((unit) => unit.endpoints);
  if (!match || !endpoints.every((endpoint) => /^(\[[0-9a-f:]+\]|[^:[\]]+):\d+$/i.test(endpoint))) {
    throw new DaybookError(
      'CONFIG_INVALID',
      `not of the form etcd://HOST:PORT,HOST:PORT/NAME: ${url}`,
      {
        details: { url },
      },
    );
  }
  const prefix = match[3];
  return {
    units,
    ...(match[1] === 's' ? { tls: {} } : {}),
    ...(prefix ? { prefix: prefix.endsWith('/') ? prefix : `${prefix}/` } : {}),
  };
}
