import { InferkvError } from '../base/errors.ts';

const LOOPBACK_V4 = /^127(\.\d{1,3}){3}$/;

/** Whether an address or name reaches only from this machine. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  return bare === 'localhost' || bare === '::1' || LOOPBACK_V4.test(bare);
}

/**
 * Refuses what a web page of somebody else's could send through the browser of this machine's user: requests from
 * another origin, and requests by a name that was made to point here. Only needed where no key is asked for.
 *
 * @throws InferkvError `ERR_INFERKV_FORBIDDEN`
 */
export function refuseForeignPages(headers: {
  readonly host?: string | undefined;
  readonly origin?: string | undefined;
}): void {
  const { host = '', origin } = headers;
  const name = /^(?<name>\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(host)?.groups?.['name'] ?? '';
  if (!isLoopback(name)) {
    throw new InferkvError(
      'ERR_INFERKV_FORBIDDEN',
      'Without API keys this server answers only requests to localhost by that name or address; set up keys to reach it otherwise.',
    );
  }
  if (origin !== undefined && origin !== `http://${host}`) {
    throw new InferkvError(
      'ERR_INFERKV_FORBIDDEN',
      'Without API keys this server answers no requests from web pages of another origin.',
    );
  }
}
