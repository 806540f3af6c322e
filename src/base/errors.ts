/** Every code an error of this package can carry; stable across releases. */
export type ErrorCode =
  | 'ERR_INFERKV_ABORTED'
  | 'ERR_INFERKV_ARTIFACT_CHANGED'
  | 'ERR_INFERKV_ARTIFACT_INVALID'
  | 'ERR_INFERKV_ARTIFACT_MISSING'
  | 'ERR_INFERKV_BODY_INVALID'
  | 'ERR_INFERKV_BODY_TOO_LARGE'
  | 'ERR_INFERKV_BUDGET_EXCEEDED'
  | 'ERR_INFERKV_BUILD_FAILED'
  | 'ERR_INFERKV_CLOSED'
  | 'ERR_INFERKV_CONFIG_INVALID'
  | 'ERR_INFERKV_DEADLINE'
  | 'ERR_INFERKV_ENGINE_FAILED'
  | 'ERR_INFERKV_ENGINE_UNKNOWN'
  | 'ERR_INFERKV_FACTS_INVALID'
  | 'ERR_INFERKV_FORBIDDEN'
  | 'ERR_INFERKV_HANDLE_INVALID'
  | 'ERR_INFERKV_INPUT_INVALID'
  | 'ERR_INFERKV_INPUT_MISSING'
  | 'ERR_INFERKV_INPUT_UNKNOWN'
  | 'ERR_INFERKV_LEASE_RELEASED'
  | 'ERR_INFERKV_MODEL_NAME_INVALID'
  | 'ERR_INFERKV_MODEL_NOT_FOUND'
  | 'ERR_INFERKV_MODEL_UNLOADED'
  | 'ERR_INFERKV_NO_ROOM'
  | 'ERR_INFERKV_OUTPUT_NOT_JSON'
  | 'ERR_INFERKV_OUTPUT_UNKNOWN'
  | 'ERR_INFERKV_OVERLOADED'
  | 'ERR_INFERKV_PEER_MISSING'
  | 'ERR_INFERKV_POLICY_UNKNOWN'
  | 'ERR_INFERKV_REENTRANT'
  | 'ERR_INFERKV_REPOSITORY_INVALID'
  | 'ERR_INFERKV_SERVER_UNREACHABLE'
  | 'ERR_INFERKV_STORE_FAILED'
  | 'ERR_INFERKV_TENANT_BUSY'
  | 'ERR_INFERKV_TRACE_INVALID'
  | 'ERR_INFERKV_TRACE_MISSING'
  | 'ERR_INFERKV_UNAUTHORIZED'
  | 'ERR_INFERKV_WHAT_IF_OFF'
  | 'ERR_INFERKV_WORKER_LOST';

/** What an error may say beyond its code and message. */
export interface ErrorDetails {
  /** What led to it. */
  readonly cause?: unknown;
  /** The key or name it is about: a model, an input, an entry's digest, a path. */
  readonly key?: string;
}

/** An error of the world: bad input, a failing model, a full cache. Its message says what happened and what to do next. */
export class InferkvError extends Error {
  override readonly name = 'InferkvError';
  /** Stable across releases; programs branch on this, never on the message. */
  readonly code: ErrorCode;
  /** The key or name the error is about. */
  readonly key: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.key = details.key;
  }
}

/** Whether `error` is one of ours, with that code if one is given. */
export function isInferkvError(error: unknown, code?: ErrorCode): error is InferkvError {
  return error instanceof InferkvError && (code === undefined || error.code === code);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
