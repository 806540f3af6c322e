/** What commands share that ask a running server: its address, a key, and what its answers mean. */
import type { Command } from 'commander';

import { InferkvError, messageOf, type ErrorCode } from '../base/errors.ts';

/** Flags of every command that asks a server. */
export interface AskFlags {
  readonly url?: string;
  readonly key?: string;
  readonly json?: true;
}

const DEFAULT_URL = 'http://127.0.0.1:8000';
const PATIENCE_MS = 30_000;

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'ERR_INFERKV_BODY_INVALID',
  401: 'ERR_INFERKV_UNAUTHORIZED',
  403: 'ERR_INFERKV_FORBIDDEN',
};

/** Adds the flags of every command that asks a server. */
export function withAskFlags(command: Command): Command {
  return command
    .option('--url <address>', `the server; INFERKV_URL, or ${DEFAULT_URL}, if left out`)
    .option('--key <text>', 'an API key of the role admin; better by INFERKV_API_KEY, as others see flags')
    .option('--json', 'print JSON and nothing else');
}

/**
 * What a server says at a path.
 *
 * @throws InferkvError `ERR_INFERKV_SERVER_UNREACHABLE`, `ERR_INFERKV_CONFIG_INVALID` for an address that is none, or as the server refuses
 */
export async function ask<T>(path: string, flags: AskFlags): Promise<T> {
  const url = urlOf(flags.url ?? process.env['INFERKV_URL'] ?? DEFAULT_URL, path);
  const key = flags.key ?? process.env['INFERKV_API_KEY'];
  let status: number;
  let text: string;
  try {
    const answer = await fetch(url, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    ({ status } = answer);
    text = await answer.text();
  } catch (error) {
    const { cause = error } = error as { cause?: unknown };
    throw unreachable(
      `There is no answer from ${url.origin}: ${messageOf(cause)}. Is "inferkv serve" running there?`,
      error,
    );
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw unreachable(`What answers at ${url.origin} is no server of inferkv (status ${status}, no JSON).`, error);
  }
  if (status === 200) return body as T;
  throw refusalOf(status, body, url);
}

function urlOf(address: string, path: string): URL {
  const base = URL.canParse(address) ? new URL(address) : undefined;
  if (base?.protocol === 'http:' || base?.protocol === 'https:') {
    return new URL(`${base.origin}${base.pathname.replace(/\/+$/, '')}${path}`);
  }
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `--url: "${address}" is no address; write it as ${DEFAULT_URL}.`,
  );
}

function refusalOf(status: number, body: unknown, url: URL): InferkvError {
  const { error, code } = (body ?? {}) as { error?: unknown; code?: unknown };
  const says = typeof error === 'string' ? error : `status ${status}`;
  if (code === 'ERR_INFERKV_WHAT_IF_OFF') return new InferkvError(code, says);
  const known = CODE_OF_STATUS[status];
  if (known !== undefined) return new InferkvError(known, says);
  return unreachable(`The server at ${url.origin} cannot answer: ${says}`, undefined);
}

function unreachable(message: string, cause: unknown): InferkvError {
  return new InferkvError('ERR_INFERKV_SERVER_UNREACHABLE', message, { cause });
}
