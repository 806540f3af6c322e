import { crc32 } from 'node:zlib';

import type { CallOptions, GrantAuthority } from '../store.ts';
import { ACQUIRE, RELEASE, RENEW } from './scripts.ts';
import type { AskRedis } from './store.ts';

// Rights and the last token given lie on one node of a Cluster; several groups of them spread over the nodes.
const GROUPS = 64;

/** Rights in Redis: a key that expires. Tokens grow with the clock, so that they do even if Redis loses them. */
export class RedisGrants implements GrantAuthority {
  readonly #ask: AskRedis;
  readonly #prefix: string;

  constructor(ask: AskRedis, prefix: string) {
    this.#ask = ask;
    this.#prefix = prefix;
  }

  async acquire(name: string, ttlMs: number, { signal }: CallOptions = {}): Promise<number | undefined> {
    const { right, last } = this.#keysOf(name);
    const token = await this.#ask(signal, (client) =>
      client.eval(ACQUIRE, 2, right, last, Date.now(), Math.ceil(ttlMs)),
    );
    return token === null ? undefined : Number(token);
  }

  async renew(name: string, token: number, ttlMs: number, { signal }: CallOptions = {}): Promise<boolean> {
    const { right } = this.#keysOf(name);
    return (await this.#ask(signal, (client) => client.eval(RENEW, 1, right, token, Math.ceil(ttlMs)))) === 1;
  }

  async release(name: string, token: number, { signal }: CallOptions = {}): Promise<void> {
    const { right } = this.#keysOf(name);
    await this.#ask(signal, (client) => client.eval(RELEASE, 1, right, token));
  }

  #keysOf(name: string): { readonly right: string; readonly last: string } {
    const group = `${this.#prefix}{right:${crc32(name) % GROUPS}}`;
    return { right: `${group}:of:${name}`, last: `${group}:last` };
  }
}
