import { InferkvError, isInferkvError, messageOf } from '../../base/errors.ts';

const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^(NOAUTH|WRONGPASS)|invalid password/i, 'Give the username and password that the server knows.'],
  [/^NOPERM/, "The server's user may not do this; see docs/stores/redis.md for the commands that are needed."],
  [/^READONLY/, 'It is a replica; give the address of the master, or of its sentinels.'],
  [/^LOADING/, 'The server is still reading its data.'],
  [/^CLUSTERDOWN|All keys|ClusterAllFailed/i, 'The Cluster has no node for this key now.'],
  [/^(MISCONF|OOM)/, 'See the log of the server: it takes no writes now.'],
  [
    /ECONNREFUSED|ENOTFOUND|could not be made|Connection is closed|ECONNRESET|ETIMEDOUT/,
    'Is the server up, and the address right?',
  ],
];

/** Whether the server has no room. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('OOM');
}

/** Any error of a client as one of ours. */
export function redisError(error: unknown): InferkvError {
  if (isInferkvError(error)) return error;
  const message = messageOf(error);
  const advice = ADVICE.find(([pattern]) => pattern.test(message))?.[1] ?? 'The next call tries anew.';
  return new InferkvError('ERR_INFERKV_STORE_FAILED', `Redis could not be asked: ${message}. ${advice}`, {
    cause: error,
    key: 'redis',
  });
}
