/** API keys: who may ask, on whose behalf, and for what. The file holds no key, only their SHA-256 digests. */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';

import { z } from 'zod';

import type { Clock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';

/** What a key allows: `infer` to ask models, `admin` also to load and unload them and to read metrics. */
export type Role = 'infer' | 'admin';

/** Who sends a request. */
export interface Principal {
  /** Tenants never share results; `''` where there are no keys. */
  readonly tenant: string;
  readonly role: Role;
}

/** A key as the file keeps it. */
export interface StoredKey extends Principal {
  /** Public part of the key. */
  readonly id: string;
  /** SHA-256 of the whole key, hex. */
  readonly sha256: string;
  readonly createdAt: string;
  /** From when on it is refused; never if left out. */
  readonly expiresAt?: string | undefined;
}

/** A key that was just made: its text is shown once and kept nowhere. */
export interface IssuedKey {
  readonly text: string;
  readonly stored: StoredKey;
}

const KEY = /^ikv_(?<id>[0-9a-f]{12})_[A-Za-z0-9_-]{43}$/;
const ID_BYTES = 6;
const SECRET_BYTES = 32;
const RECHECK_MS = 1000;
const NOBODY = '0'.repeat(64);

const fileSchema: z.ZodType<{ readonly keys: readonly StoredKey[] }> = z.strictObject({
  keys: z.array(
    z.strictObject({
      id: z.string().regex(/^[0-9a-f]{12}$/),
      tenant: z.string().min(1).max(128),
      role: z.enum(['infer', 'admin']),
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      createdAt: z.iso.datetime(),
      expiresAt: z.iso.datetime().optional(),
    }),
  ),
});

/** A new key of 256 random bits, which is why one plain SHA-256 is enough to store it by. */
export function issueKey({ tenant, role }: Principal, now: Date): IssuedKey {
  const id = randomBytes(ID_BYTES).toString('hex');
  const text = `ikv_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}`;
  return { text, stored: { id, tenant, role, sha256: hash('sha256', text), createdAt: now.toISOString() } };
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a file that cannot be read or is no key file */
export function readKeys(path: string): readonly StoredKey[] {
  try {
    return fileSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).keys;
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The key file ${path} cannot be used: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
}

/** Replaces the key file as a whole, readable by its owner only. */
export function writeKeys(path: string, keys: readonly StoredKey[]): void {
  const partial = `${path}.${process.pid}.partial`;
  writeFileSync(partial, `${JSON.stringify({ keys }, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(partial, path);
}

/** Tells who holds a key. A changed file counts from the next second on, without a restart. */
export class ApiKeys {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #onFault: (error: unknown) => void;
  readonly #date: () => number;
  #byId = new Map<string, StoredKey>();
  #signature = '';
  #checkedAt = 0;

  /**
   * @param onFault told when a changed file cannot be read; the keys that were there stay
   * @param date milliseconds since 1970, by which keys expire
   */
  constructor(path: string, clock: Clock, onFault: (error: unknown) => void, date: () => number = Date.now) {
    this.#date = date;
    this.#path = path;
    this.#clock = clock;
    this.#onFault = onFault;
    this.#read();
  }

  /**
   * Who sends a request with such an `Authorization` header.
   *
   * @throws InferkvError `ERR_INFERKV_UNAUTHORIZED`; which part was wrong is not told
   */
  verify(authorization: string | undefined): Principal {
    this.#recheck();
    const text = /^Bearer (?<key>\S+)$/i.exec(authorization ?? '')?.groups?.['key'] ?? '';
    const stored = this.#byId.get(KEY.exec(text)?.groups?.['id'] ?? '');
    // Compared even where there is nothing to compare with, so that time does not tell which ids exist.
    const matches = timingSafeEqual(hash('sha256', text, 'buffer'), Buffer.from(stored?.sha256 ?? NOBODY, 'hex'));
    const expired = stored?.expiresAt !== undefined && Date.parse(stored.expiresAt) <= this.#date();
    if (stored !== undefined && matches && !expired) return { tenant: stored.tenant, role: stored.role };
    throw new InferkvError(
      'ERR_INFERKV_UNAUTHORIZED',
      text === ''
        ? 'This server asks for an API key: send the header "Authorization: Bearer <key>".'
        : 'The API key is not known here, or has expired.',
    );
  }

  #recheck(): void {
    const now = this.#clock.now();
    if (now - this.#checkedAt < RECHECK_MS) return;
    try {
      if (this.#signatureNow() !== this.#signature) this.#read();
      this.#checkedAt = now;
    } catch (error) {
      this.#checkedAt = now;
      this.#onFault(error);
    }
  }

  #read(): void {
    this.#checkedAt = this.#clock.now();
    const signature = this.#signatureNow();
    this.#byId = new Map(readKeys(this.#path).map((key) => [key.id, key]));
    this.#signature = signature;
  }

  #signatureNow(): string {
    try {
      const { mtimeMs, size, ino } = statSync(this.#path);
      return `${mtimeMs}/${size}/${ino}`;
    } catch (error) {
      throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `There is no key file ${this.#path}.`, {
        cause: error,
        key: this.#path,
      });
    }
  }
}
