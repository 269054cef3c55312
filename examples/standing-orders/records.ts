/** An account of the bank. */
export interface Account {
  readonly id: string;
  readonly district: string;
  /** ISO date. */
  readonly openedOn: string;
}

/** A standing order: every month this amount goes from an account to a payee at some bank. */
export interface StandingOrder {
  readonly id: string;
  /** The paying account. */
  readonly account: string;
  /** Two letters. */
  readonly payeeBank: string;
  /** The payee's account at that bank. */
  readonly payeeAccount: string;
  /** Millionths, over 0. */
  readonly amount: bigint;
  /** HH household, LO loan, IN insurance, LE leasing, or empty. */
  readonly purpose: string;
}

/** All the input of a run. */
export interface BankData {
  readonly accounts: readonly Account[];
  readonly orders: readonly StandingOrder[];
}
