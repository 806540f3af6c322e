import { counterName, type FreshNumbers } from '../fresh-numbers.ts';
import type { WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import type { OpenCalls } from '../open-calls.ts';
import type { CallOptions, EpochAuthority, GrantAuthority } from '../store.ts';
import { expirationOf } from './expiration.ts';
import { counterExtras, OPCODE, STATUS, storeExtras, type Request, type Response } from './protocol.ts';
import { refused, type Server, type Servers } from './servers.ts';

/** What counters need. */
export interface CounterParts {
  readonly servers: Servers;
  readonly calls: OpenCalls;
  readonly prefix: string;
  readonly numbers: FreshNumbers;
  readonly wallClock: WallClock;
}

const DECIMAL = /^\d{1,16} *$/;

/**
 * Epochs as memcached's counters. One that was evicted, or lost with its server, begins anew with a number that was never
 * given (`fresh-numbers.ts`): all that was made under the old one is a miss, which is safe.
 */
export function createEpochs({ servers, calls, prefix, numbers }: CounterParts): EpochAuthority {
  const key = (scope: string): string => `${prefix}e:${counterName(scope)}`;
  const all = async (
    scopes: readonly string[],
    { signal }: CallOptions,
    ask: (server: Server, scopes: readonly string[]) => Promise<readonly number[]>,
  ): Promise<readonly number[]> =>
    calls.run(signal, async () =>
      (await servers.each(scopes, ask)).map((each) => {
        if (each.status === 'rejected') throw each.reason;
        return numbers.seen(each.value);
      }),
    );
  const raise = async (server: Server, scopes: readonly string[], delta: number): Promise<readonly number[]> => {
    const answers = await server.ask(scopes.map((scope) => increment(key(scope), delta, numbers)));
    return answers.map(counterOf);
  };
  return {
    read: (scopes, options = {}) =>
      all(scopes, options, async (server, own) => {
        // A plain read first: it keeps the counter among what was used lately, which incrementing by nothing does not.
        const found = await server.ask(own.map((scope) => ({ opcode: OPCODE.get, key: key(scope) })));
        const known = found.map(textCounterOf);
        const missing = own.filter((_, at) => known[at] === undefined);
        if (missing.length === 0) return known as readonly number[];
        const begun = (await raise(server, missing, 0)).values();
        return known.map((number) => number ?? (begun.next().value as number));
      }),
    bump: (scopes, options = {}) => all(scopes, options, (server, own) => raise(server, own, 1)),
  };
}

/**
 * Rights as items that are only there while somebody has them. The token is taken once the right is had, so that it is
 * greater than that of anybody who had it before.
 */
export function createGrants({ servers, calls, prefix, numbers, wallClock }: CounterParts): GrantAuthority {
  const grantKey = (name: string): string => `${prefix}g:${counterName(name)}`;
  const tokenKey = (name: string): string => `${prefix}t:${counterName(name)}`;
  const write = (name: string, token: number, ttlMs: number): Request => ({
    opcode: OPCODE.set,
    key: grantKey(name),
    extras: storeExtras(0, expirationOf(ttlMs, wallClock)),
    value: [Buffer.from(String(token))],
  });
  const held = async (server: Server, name: string, token: number): Promise<bigint | undefined> => {
    const item = await server.askOne({ opcode: OPCODE.get, key: grantKey(name) });
    return textCounterOf(item) === token ? item.cas : undefined;
  };
  return {
    acquire: (name, ttlMs, { signal } = {}) =>
      calls.run(signal, async () => {
        const server = servers.of(name);
        const added = await server.askOne({ ...write(name, 0, ttlMs), opcode: OPCODE.add });
        if (added.status === STATUS.exists || added.status === STATUS.notStored) return undefined;
        if (added.status !== STATUS.ok) throw refused(added);
        const token = numbers.seen(counterOf(await server.askOne(increment(tokenKey(name), 1, numbers))));
        const given = await server.askOne({ ...write(name, token, ttlMs), cas: added.cas });
        if (given.status === STATUS.ok) return token;
        // It took so long that the right was over, and perhaps another's.
        if (given.status === STATUS.exists || given.status === STATUS.notFound) return undefined;
        throw refused(given);
      }),
    renew: (name, token, ttlMs, { signal } = {}) =>
      calls.run(signal, async () => {
        const server = servers.of(name);
        const cas = await held(server, name, token);
        if (cas === undefined) return false;
        const answer = await server.askOne({ ...write(name, token, ttlMs), cas });
        if (answer.status === STATUS.ok) return true;
        if (answer.status === STATUS.exists || answer.status === STATUS.notFound) return false;
        throw refused(answer);
      }),
    release: (name, token, { signal } = {}) =>
      calls.run(signal, async () => {
        const server = servers.of(name);
        const cas = await held(server, name, token);
        if (cas !== undefined) await server.askOne({ opcode: OPCODE.delete, key: grantKey(name), cas });
      }),
  };
}

function increment(key: string, delta: number, numbers: FreshNumbers): Request {
  return { opcode: OPCODE.increment, key, extras: counterExtras(delta, numbers.next()) };
}

/** What a counter is after it was incremented. */
function counterOf(answer: Response): number {
  if (answer.status !== STATUS.ok) throw refused(answer);
  const { value } = answer;
  const number =
    value.length === 8 ? Number(Buffer.from(value.buffer, value.byteOffset, 8).readBigUInt64BE(0)) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw foreign();
  return number;
}

/** What a counter is as an item: digits. */
function textCounterOf(item: Response): number | undefined {
  if (item.status === STATUS.notFound) return undefined;
  if (item.status !== STATUS.ok) throw refused(item);
  const text = Buffer.from(item.value).toString('latin1');
  const number = DECIMAL.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw foreign();
  return number;
}

function foreign(): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    'Something that is no counter lies in memcached under a name of ours; choose another prefix.',
  );
}
