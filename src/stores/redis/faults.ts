import { InferkvError, messageOf } from '../../base/errors.ts';

/**
 * What an error of the server or the client means for a call. `later`: it was not done, and may be soon; `elsewhere`: it was
 * not done, and another server would; `closed`: the connection ended, nobody knows whether it was done; `full`: no room.
 */
export type Fault = 'later' | 'elsewhere' | 'closed' | 'full' | 'refused';

const FAULTS: readonly (readonly [RegExp, Fault])[] = [
  [/OOM command not allowed/, 'full'],
  [/^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)\b/, 'later'],
  [/^(READONLY|UNBLOCKED)\b|READONLY You can't write/, 'elsewhere'],
  [
    /Connection is closed|isn't writeable|Too many Cluster redirections|max retries per request|Socket timeout|Cluster (isn't ready|is ended)|None of startup nodes/i,
    'closed',
  ],
  [/ECONNRESET|EPIPE|ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND/, 'closed'],
];

const HINTS: readonly (readonly [RegExp, string])[] = [
  [
    /WRONGPASS|invalid username-password/i,
    'does not take that user and password; check the options `username` and `password`',
  ],
  [/NOAUTH|Authentication required/i, 'wants a user or a password; set the options `username` and `password`'],
  [
    /NOPERM/,
    'does not allow that user what the store does; give it the commands that docs/stores/redis.md lists, on keys with the prefix',
  ],
  [/READONLY/, 'is a replica that takes no writes; name the master, or use the options `sentinels` or `cluster`'],
  [/OOM command not allowed/, 'has no memory left; raise its maxmemory, or set a maxmemory-policy that makes room'],
  [/MISCONF/, 'takes no writes, as it cannot save to its disk; look at its log'],
  [/LOADING/, 'is still loading its data; it will answer when that is done'],
  [
    /CLUSTERDOWN|state fail/i,
    'is a Cluster that lacks a master for some slots; it answers again when a replica has taken over',
  ],
  [/MASTERDOWN/, 'is a replica without its master; it answers again when they are connected'],
  [
    /self.signed|unable to verify|certificate/i,
    'has a certificate that is not trusted; give its authority by the option `tls: { ca }`',
  ],
  [
    /wrong version number|packet length too long|SSL|EPROTO/i,
    'does not speak TLS there, or speaks nothing else; check the option `tls`',
  ],
  [/ECONNREFUSED/, 'does not listen; check host and port, and that the server runs'],
  [/ENOTFOUND|EAI_AGAIN/, 'has a name that cannot be resolved; check the option `host`'],
  [/DB index is out of range/, 'has no database of that number; check the option `db`'],
  [/sentinel/i, 'is not known to the Sentinels that could be reached; check `sentinels` and `masterName`'],
  [/ETIMEDOUT|Socket timeout|not ready within/i, 'did not answer in time; check that it runs and is not overloaded'],
];

/** What it means. */
export function faultOf(error: unknown): Fault {
  const message = textOf(error);
  return FAULTS.find(([pattern]) => pattern.test(message))?.[1] ?? 'refused';
}

/** The error of ours that says so. */
export function storeError(where: string, error: unknown): InferkvError {
  const message = textOf(error);
  const hint = HINTS.find(([pattern]) => pattern.test(message))?.[1];
  const says = hint ?? 'closed the connection or refused the call; the store connects again with the next call';
  return new InferkvError('ERR_INFERKV_STORE_FAILED', `Redis at ${where} ${says} (${message}).`, {
    cause: bare(error),
  });
}

/** An answer that does not belong to what was asked: whoever sent it cannot be believed any more. */
export function nonsense(where: string, command: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    `Redis at ${where} answered ${command} with what is no answer to it; the connection was given up. ` +
      'Check what lies between, and that only the store uses keys with its prefix.',
  );
}

// ioredis keeps the whole command in its errors: the password of AUTH, and the bytes of values.
function bare(error: unknown): Error {
  const cause = new Error(textOf(error));
  if (error instanceof Error && error.stack !== undefined) cause.stack = error.stack;
  return cause;
}

function textOf(error: unknown): string {
  const { code, errors, lastNodeError } = (error ?? {}) as {
    code?: unknown;
    errors?: unknown;
    lastNodeError?: unknown;
  };
  // Of several addresses of one name, and of several nodes, the last says most.
  if (lastNodeError instanceof Error) return textOf(lastNodeError);
  const inner: unknown = Array.isArray(errors) ? errors.at(-1) : undefined;
  if (inner instanceof Error) return textOf(inner);
  const message = messageOf(error);
  return typeof code === 'string' && !message.includes(code) ? `${code} ${message}` : message;
}
