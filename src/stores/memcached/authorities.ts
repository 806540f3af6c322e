import { hash } from 'node:crypto';

import type { WallClock } from '../../base/clock.ts';
import type { EpochAuthority, GrantAuthority } from '../store.ts';
import type { Items } from './items.ts';

type Check = (signal: AbortSignal | undefined) => void;

const MAX_TRIES = 5;

/**
 * Epochs in Memcached: a counter a scope. Memcached may forget a counter; then it begins again from the clock, with a number that
 * was never given before, and what was made under the old one is out of date.
 */
export function memcachedEpochs(items: Items, prefix: string, wallClock: WallClock, check: Check): EpochAuthority {
  const keyOf = (scope: string): string => `${prefix}epoch:${digestOf(scope)}`;
  const read = async (scope: string, signal: AbortSignal | undefined): Promise<number> => {
    const key = keyOf(scope);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const item = await items.get(key, signal);
      const epoch = item === undefined ? Number.NaN : Number(Buffer.from(item.value).toString('latin1'));
      if (epoch > 0) return epoch;
      // As a counter has it: decimal digits.
      await items.put(
        key,
        [Buffer.from(String(Math.floor(wallClock())))],
        item === undefined ? 'add' : item.cas,
        {},
        signal,
      );
    }
    return Math.floor(wallClock());
  };
  return {
    read: async (scopes, { signal } = {}) => {
      check(signal);
      return Promise.all(scopes.map((scope) => read(scope, signal)));
    },
    bump: async (scopes, { signal } = {}) => {
      check(signal);
      return Promise.all(scopes.map((scope) => items.increment(keyOf(scope), Math.floor(wallClock()), signal)));
    },
  };
}

/** Rights in Memcached: an item that only one can add. Its value says until when it is good, as Memcached only counts seconds. */
export function memcachedGrants(items: Items, prefix: string, wallClock: WallClock, check: Check): GrantAuthority {
  const keyOf = (name: string): string => `${prefix}right:${digestOf(name)}`;
  const last = `${prefix}right-last`;
  return {
    acquire: async (name, ttlMs, { signal } = {}) => {
      check(signal);
      const key = keyOf(name);
      const old = await items.get(key, signal);
      if (old !== undefined && rightOf(old.value).untilMs > wallClock()) return undefined;
      // Nobody else gets it from here on, and only then is the token drawn, so that tokens grow as rights are granted.
      const claim = encodeRight(0, wallClock() + ttlMs);
      if ((await items.put(key, [claim], old?.cas ?? 'add', { ttlMs }, signal)) !== 'stored') return undefined;
      const token = await items.increment(last, Math.floor(wallClock()), signal);
      const claimed = await items.get(key, signal);
      if (claimed === undefined || !Buffer.from(claimed.value).equals(claim)) return undefined;
      const right = encodeRight(token, wallClock() + ttlMs);
      return (await items.put(key, [right], claimed.cas, { ttlMs }, signal)) === 'stored' ? token : undefined;
    },
    renew: async (name, token, ttlMs, { signal } = {}) => {
      check(signal);
      const key = keyOf(name);
      const item = await items.get(key, signal);
      if (item === undefined) return false;
      const right = rightOf(item.value);
      if (right.token !== token || right.untilMs <= wallClock()) return false;
      return (
        (await items.put(key, [encodeRight(token, wallClock() + ttlMs)], item.cas, { ttlMs }, signal)) === 'stored'
      );
    },
    release: async (name, token, { signal } = {}) => {
      check(signal);
      const key = keyOf(name);
      const item = await items.get(key, signal);
      if (item === undefined || rightOf(item.value).token !== token) return;
      // Over at once, and only if nobody else has it by now.
      await items.put(key, [encodeRight(0, 0)], item.cas, { ttlMs: 1 }, signal);
    },
  };
}

function encodeRight(token: number, untilMs: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeDoubleBE(token, 0);
  bytes.writeDoubleBE(untilMs, 8);
  return bytes;
}

function rightOf(value: Uint8Array): { readonly token: number; readonly untilMs: number } {
  if (value.length !== 16) return { token: 0, untilMs: 0 };
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  return { token: view.getFloat64(0), untilMs: view.getFloat64(8) };
}

/** Any text as a key. */
function digestOf(text: string): string {
  return hash('sha256', text, 'hex');
}
