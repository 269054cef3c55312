import { DaybookError } from '../base/index.ts';

const untrusted = 'its certificate leads to no root that is trusted here';
const notTls = 'it does not speak TLS there';

/** What Node's and OpenSSL's codes mean to whoever reads them. */
const meanings: Readonly<Record<string, string>> = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: compare the clocks',
  ERR_SSL_WRONG_VERSION_NUMBER: notTls,
};

/**
 * Why a connection failed, on one line: the innermost cause of an error, in words where its code says
 * little.
 *
 * @param url - what was asked, where it is HTTP.
 * @param roots - where the trusted roots come from.
 */
export function whyUnreachable(error: unknown, url = '', roots = moreRoots): string {
  const cause = innermost(error);
  if (!(cause instanceof Error)) return String(cause);
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  const meaning = meanings[code];
  if (meaning === untrusted) return `${meaning} (${roots})`;
  if (meaning === notTls && url.startsWith('https:')) return `${meaning}: is it http:// ?`;
  if (meaning !== undefined) return meaning;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const { cert } = cause as { readonly cert?: { readonly subjectaltname?: string } };
    return `its certificate is for other names: ${cert?.subjectaltname ?? 'none'}`;
  }
  if (code === 'UND_ERR_SOCKET' && url.startsWith('http:')) {
    return 'the connection was closed without an answer (as a port for https:// does)';
  }
  return cause.message.replace(/\s+/g, ' ').trim() || code || cause.name;
}

/** That a gateway gave no answer, and why: `PEER_UNREACHABLE`. @param gateway - its URL. */
export function noAnswerFrom(gateway: string, cause: unknown): DaybookError {
  const message = `no answer from ${gateway}: ${whyUnreachable(cause, gateway)}`;
  return new DaybookError('PEER_UNREACHABLE', message, { cause, details: { gateway } });
}

function innermost(error: unknown): unknown {
  let at = error;
  // One attempt for each address of a name: the last one stands for all.
  for (let depth = 0; depth < depthMax; depth++) {
    const next = at instanceof AggregateError ? at.errors.at(-1) : (at as Error | undefined)?.cause;
    if (next === undefined || next === null) return at;
    at = next;
  }
  return at;
}

const moreRoots = 'NODE_EXTRA_CA_CERTS names a file with more';
const depthMax = 8;
