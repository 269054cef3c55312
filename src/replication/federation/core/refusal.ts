import { DaybookError, isDaybookError } from '../../../base/index.ts';
import { type UddiErrorCode, uddiErrors } from './uddi-errors.ts';

/** What a refusal names beside its code. */
export interface RefusalDetails {
  readonly key?: string;
  readonly change?: string;
}

/** A `REGISTRY_REFUSED` with UDDI's own code in `details.uddi` and at the head of its message. */
export function refusal(
  uddi: UddiErrorCode,
  message: string,
  details: RefusalDetails = {},
): DaybookError {
  return new DaybookError('REGISTRY_REFUSED', `${uddi}: ${message}`, {
    details: { ...details, uddi },
  });
}

/** UDDI's code of an error: of a refusal as thrown, or after a contract passed its message on. */
export function uddiCodeOf(error: unknown): UddiErrorCode {
  if (isDaybookError(error)) {
    const given = error.details.uddi;
    if (typeof given === 'string' && given in uddiErrors) return given as UddiErrorCode;
  }
  const message = error instanceof Error ? error.message : String(error);
  const named = /\b(E_[a-zA-Z]+)\b/.exec(message)?.[1];
  return named !== undefined && named in uddiErrors ? (named as UddiErrorCode) : 'E_fatalError';
}
