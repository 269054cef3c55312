/**
 * UDDI's error codes and their numbers.
 *
 * @see UDDI 3.0.2, chapter 12.
 */
export const uddiErrors = {
  E_success: 0,
  E_nameTooLong: 10020,
  E_tooManyOptions: 10030,
  E_unrecognizedVersion: 10040,
  E_unsupported: 10050,
  E_languageError: 10060,
  E_authTokenExpired: 10110,
  E_authTokenRequired: 10120,
  E_userMismatch: 10140,
  E_unknownUser: 10150,
  E_accountLimitExceeded: 10160,
  E_invalidKeyPassed: 10210,
  E_invalidURLPassed: 10220,
  E_keyRetired: 10310,
  E_busy: 10400,
  E_fatalError: 10500,
  E_invalidValue: 20200,
  E_valueNotAllowed: 20210,
  E_unvalidatable: 20220,
  E_invalidProjection: 20230,
  E_requestTimeout: 20240,
  E_assertionNotFound: 30000,
  E_invalidCompletionStatus: 30100,
  E_messageTooLarge: 30110,
  E_requestDenied: 30210,
  E_publisherCancelled: 30220,
  E_resultSetTooLarge: 40300,
  E_keyUnavailable: 40100,
  E_invalidCombination: 40500,
  E_transferNotAllowed: 40600,
} as const;

/** One of UDDI's error codes. */
export type UddiErrorCode = keyof typeof uddiErrors;
