import { isInferkvError, type ErrorCode, type InferkvError } from '../base/errors.ts';

/** An error as a client gets it. */
export interface Failure {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** `error` is the protocol's field; `code` is stable. */
  readonly body: { readonly error: string; readonly code: string };
  /** Whether the operator should hear of it. */
  readonly unexpected: boolean;
}

const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  ERR_INFERKV_BODY_INVALID: 400,
  ERR_INFERKV_INPUT_INVALID: 400,
  ERR_INFERKV_INPUT_MISSING: 400,
  ERR_INFERKV_INPUT_UNKNOWN: 400,
  ERR_INFERKV_MODEL_NAME_INVALID: 400,
  ERR_INFERKV_OUTPUT_UNKNOWN: 400,
  ERR_INFERKV_OUTPUT_NOT_JSON: 400,
  ERR_INFERKV_UNAUTHORIZED: 401,
  ERR_INFERKV_FORBIDDEN: 403,
  ERR_INFERKV_MODEL_NOT_FOUND: 404,
  ERR_INFERKV_WHAT_IF_OFF: 404,
  ERR_INFERKV_ABORTED: 408,
  ERR_INFERKV_BODY_TOO_LARGE: 413,
  ERR_INFERKV_TENANT_BUSY: 429,
  ERR_INFERKV_ARTIFACT_CHANGED: 503,
  ERR_INFERKV_CLOSED: 503,
  ERR_INFERKV_MODEL_UNLOADED: 503,
  ERR_INFERKV_NO_ROOM: 503,
  ERR_INFERKV_OVERLOADED: 503,
  ERR_INFERKV_WORKER_LOST: 503,
  ERR_INFERKV_DEADLINE: 504,
  ERR_INFERKV_BUDGET_EXCEEDED: 507,
};

/** Worth another try soon, as the load of the moment caused them. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set([
  'ERR_INFERKV_ARTIFACT_CHANGED',
  'ERR_INFERKV_CLOSED',
  'ERR_INFERKV_NO_ROOM',
  'ERR_INFERKV_OVERLOADED',
  'ERR_INFERKV_TENANT_BUSY',
  'ERR_INFERKV_WORKER_LOST',
]);

const RETRY_AFTER_SECONDS = '1';

/**
 * What a client is told of an error. Whose messages name files of this machine are put in words that do not, unless the
 * client is an operator.
 */
export function failureOf(error: unknown, forOperator: boolean): Failure {
  if (!isInferkvError(error)) return fromFramework(error);
  const { code } = error;
  const status = STATUS[code] ?? 500;
  const headers: Record<string, string> = {};
  if (TRANSIENT.has(code)) headers['retry-after'] = RETRY_AFTER_SECONDS;
  if (status === 401) headers['www-authenticate'] = 'Bearer realm="inferkv"';
  return {
    status,
    headers,
    body: { error: forOperator ? error.message : publicMessage(error, status), code },
    unexpected: status === 500 || status === 507 || code === 'ERR_INFERKV_WORKER_LOST',
  };
}

/** Messages of these tell of the request alone; every other may name files or settings. */
const FOR_EVERYBODY: ReadonlySet<ErrorCode> = new Set([
  'ERR_INFERKV_CLOSED',
  'ERR_INFERKV_DEADLINE',
  'ERR_INFERKV_ENGINE_FAILED',
  'ERR_INFERKV_MODEL_UNLOADED',
  'ERR_INFERKV_NO_ROOM',
  'ERR_INFERKV_OVERLOADED',
]);

function publicMessage({ code, message, key }: InferkvError, status: number): string {
  if (code === 'ERR_INFERKV_MODEL_NOT_FOUND') {
    return `There is no model ${JSON.stringify(key ?? '')}, or not this version of it.`;
  }
  if (status < 500 || FOR_EVERYBODY.has(code)) return message;
  return TRANSIENT.has(code)
    ? 'The model is loaded anew at this moment; try again.'
    : 'The server cannot answer with this model; its log says why.';
}

/** Errors of the HTTP framework have a status of their own; anything else is ours to mend, and nobody else's to read. */
function fromFramework(error: unknown): Failure {
  const { statusCode, message, code } = error as { statusCode?: unknown; message?: unknown; code?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return {
      status: statusCode,
      headers: {},
      body: { error: String(message), code: typeof code === 'string' ? code : 'ERR_INFERKV_BODY_INVALID' },
      unexpected: false,
    };
  }
  const body = { error: 'The server failed; its log says why.', code: 'ERR_INFERKV_INTERNAL' };
  return { status: 500, headers: {}, body, unexpected: true };
}
