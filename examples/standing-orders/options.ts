import { parseArgs } from 'node:util';
import { DaybookError } from '../../src/base/index.ts';

/** Options of the example; see {@link help}. */
export interface Options {
  readonly accounts: string | undefined;
  readonly orders: string | undefined;
  readonly sampleAccounts: number;
  readonly months: number;
  readonly executors: number;
  readonly gateway: readonly string[];
  readonly channel: string;
  readonly msp: string;
  readonly certificate: string;
  readonly key: string;
  readonly json: boolean;
  readonly help: boolean;
}

/** What `--help` prints. */
export const help = `Opens the accounts of a bank and executes its standing payment orders month after month.

  npm run example:standing-orders -- [options]

  --accounts FILE         tab-separated: id, district, opening date, statement frequency
  --orders FILE           tab-separated: id, paying account, payee's bank, payee's account,
                          amount, purpose; without both files a made-up bank is used
  --sample-accounts N     accounts of the made-up bank (4500)
  --months N              how many months (12)
  --executors N           executor nodes of the network it starts for itself (2)
  --json                  print one JSON object instead of a report

  --gateway URL           use a running network instead; may be repeated
  --channel NAME          its channel (main)
  --msp ID                who signs (Org1MSP) …
  --certificate FILE      … with which certificate (.daybook/identities/developer.cert.pem)
  --key FILE              … and key (.daybook/identities/developer.key.pem)

Exit codes: 0 money was conserved, 1 it was not or the ledger failed, 2 wrong options or files.
`;

/** @throws {DaybookError} `USAGE` */
export function readOptions(args: readonly string[]): Options {
  const { values } = parse(args);
  const { accounts, orders } = values;
  if ((accounts === undefined) !== (orders === undefined)) {
    throw new DaybookError('USAGE', '--accounts and --orders go together');
  }
  return {
    accounts,
    orders,
    sampleAccounts: wholeNumber('--sample-accounts', values['sample-accounts'], 1_000_000),
    months: wholeNumber('--months', values.months, 1200),
    executors: wholeNumber('--executors', values.executors, 64),
    gateway: values.gateway ?? [],
    channel: values.channel,
    msp: values.msp,
    certificate: values.certificate,
    key: values.key,
    json: values.json,
    help: values.help,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        accounts: { type: 'string' },
        orders: { type: 'string' },
        'sample-accounts': { type: 'string', default: '4500' },
        months: { type: 'string', default: '12' },
        executors: { type: 'string', default: '2' },
        gateway: { type: 'string', multiple: true },
        channel: { type: 'string', default: 'main' },
        msp: { type: 'string', default: 'Org1MSP' },
        certificate: { type: 'string', default: '.daybook/identities/developer.cert.pem' },
        key: { type: 'string', default: '.daybook/identities/developer.key.pem' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (cause) {
    throw new DaybookError('USAGE', cause instanceof Error ? cause.message : String(cause), {
      cause,
    });
  }
}

function wholeNumber(option: string, text: string, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > max) {
    throw new DaybookError('USAGE', `${option} must be a whole number from 1 to ${max}`, {
      details: { option, max },
    });
  }
  return value;
}
