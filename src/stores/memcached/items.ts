import { InferkvError, isInferkvError, messageOf } from '../../base/errors.ts';
import { MemcachedConnection, type MemcachedAddress } from './connection.ts';
import { OPCODE, STATUS, type MemcachedResponse } from './protocol.ts';
import { Ring } from './ring.ts';

/** An item as it lies on a server. */
export interface Item {
  readonly value: Uint8Array;
  readonly flags: number;
  readonly cas: bigint;
}

/** How an item is put: `set` over what lies there, `add` only if nothing does, a number only over the version it names. */
export type PutCondition = 'set' | 'add' | bigint;

/** What became of a put. */
export type ItemOutcome = 'stored' | 'not-stored' | 'too-large' | 'full';

// Longer times are taken for moments.
const MAX_RELATIVE_S = 30 * 24 * 3600;
const FLAGS_BYTES = 4;

/** Single items on one or several servers. */
export class Items {
  readonly #connections: readonly MemcachedConnection[];
  readonly #names: readonly string[];
  readonly #ring: Ring;

  constructor(addresses: readonly MemcachedAddress[]) {
    this.#names = addresses.map(({ host, port }) => `${host}:${port}`);
    this.#connections = addresses.map((address) => new MemcachedConnection(address));
    this.#ring = new Ring(this.#names);
  }

  async get(key: string, signal: AbortSignal | undefined): Promise<Item | undefined> {
    const { status, value, extras, cas } = await this.#ask(key, { opcode: OPCODE.get }, signal);
    if (status === STATUS.notFound) return undefined;
    if (status !== STATUS.ok) throw this.#refused(key, status);
    const flags = extras.length < FLAGS_BYTES ? 0 : new DataView(extras.buffer, extras.byteOffset).getUint32(0);
    return { value, flags, cas };
  }

  async put(
    key: string,
    value: readonly Uint8Array[],
    how: PutCondition,
    { flags = 0, ttlMs }: { readonly flags?: number; readonly ttlMs?: number | undefined },
    signal: AbortSignal | undefined,
  ): Promise<ItemOutcome> {
    const extras = Buffer.alloc(8);
    extras.writeUInt32BE(flags, 0);
    extras.writeUInt32BE(expiryOf(ttlMs), 4);
    const opcode = how === 'add' ? OPCODE.add : OPCODE.set;
    const cas = typeof how === 'bigint' ? how : 0n;
    const { status } = await this.#ask(key, { opcode, extras, value, cas }, signal);
    if (status === STATUS.ok) return 'stored';
    if (status === STATUS.exists || status === STATUS.notFound || status === STATUS.notStored) return 'not-stored';
    if (status === STATUS.tooLarge) return 'too-large';
    if (status === STATUS.noMemory) return 'full';
    throw this.#refused(key, status);
  }

  async delete(key: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { status } = await this.#ask(key, { opcode: OPCODE.delete }, signal);
    if (status === STATUS.ok || status === STATUS.notFound) return status === STATUS.ok;
    throw this.#refused(key, status);
  }

  /** Raises a counter by one, or begins it. */
  async increment(key: string, initial: number, signal: AbortSignal | undefined): Promise<number> {
    const extras = Buffer.alloc(20);
    extras.writeBigUInt64BE(1n, 0);
    extras.writeBigUInt64BE(BigInt(initial), 8);
    const { status, value } = await this.#ask(key, { opcode: OPCODE.increment, extras }, signal);
    if (status !== STATUS.ok || value.length < 8) throw this.#refused(key, status);
    return Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0));
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  async #ask(
    key: string,
    request: Omit<Parameters<MemcachedConnection['ask']>[0], 'key'>,
    signal: AbortSignal | undefined,
  ): Promise<MemcachedResponse> {
    const owner = this.#ring.ownerOf(key);
    try {
      return await (this.#connections[owner] as MemcachedConnection).ask({ ...request, key }, signal);
    } catch (error) {
      if (isInferkvError(error)) throw error;
      throw new InferkvError(
        'ERR_INFERKV_STORE_FAILED',
        `Memcached at ${this.#names[owner]} could not be asked: ${messageOf(error)}. Is the server up, and the address right? It is tried again by itself.`,
        { cause: error, key: 'memcached' },
      );
    }
  }

  #refused(key: string, status: number): InferkvError {
    return new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `Memcached at ${this.#names[this.#ring.ownerOf(key)]} refused with status 0x${status.toString(16)}; ${
        status === STATUS.authError ? 'give the username and password that the server knows.' : 'see its log.'
      }`,
      { key: 'memcached' },
    );
  }
}

/** Seconds after which an item may go. Memcached's seconds begin when they like, so one more is needed for the time to be over. */
function expiryOf(ttlMs: number | undefined): number {
  if (ttlMs === undefined) return 0;
  const seconds = Math.ceil(ttlMs / 1000) + 1;
  if (seconds <= MAX_RELATIVE_S) return seconds;
  return Math.min(0xffff_ffff, Math.floor(Date.now() / 1000) + seconds);
}
