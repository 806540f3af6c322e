import type { WallClock } from '../../base/clock.ts';
import { throwIfAborted } from '../../base/cancellation.ts';
import { InferkvError } from '../../base/errors.ts';
import type { OpenCalls } from '../open-calls.ts';
import { tokenOfParts } from '../parts.ts';
import { tokenOf } from '../record.ts';
import {
  lengthOfParts,
  type CallOptions,
  type EpochAuthority,
  type GetOptions,
  type GrantAuthority,
  type PutOptions,
  type PutOutcome,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import {
  CHUNK_HEAD_BYTES,
  chunkCount,
  chunkParts,
  joinChunks,
  openManifest,
  sealManifest,
  type Manifest,
} from './chunks.ts';
import { expirationOf } from './expiration.ts';
import { OPCODE, STATUS, storeExtras, type Request, type Response } from './protocol.ts';
import { refused, type Server, type Servers } from './servers.ts';

/** What the store is made of. */
export interface MemcachedParts {
  readonly servers: Servers;
  readonly calls: OpenCalls;
  readonly prefix: string;
  /** The longest value of an item. */
  readonly itemBytes: number;
  readonly maxRecordBytes: number;
  readonly wallClock: WallClock;
  readonly newGeneration: () => Uint8Array;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
}

/** What the flags of an item say that it is; anybody else's item is a miss. */
const KIND = { record: 0x694b_0001, manifest: 0x694b_0002, chunk: 0x694b_0003 } as const;
// Chunks in flight at once while writing, so that a long record is not in memory twice.
const CHUNKS_AT_ONCE = 8;
const MAX_CONTENTIONS = 32;

/** Records in memcached. */
export class MemcachedStore implements Store {
  readonly name = 'memcached';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #parts: MemcachedParts;

  constructor(parts: MemcachedParts) {
    this.#parts = parts;
    this.traits = { maxRecordBytes: parts.maxRecordBytes, persistent: false, reach: 'network' };
    this.epochs = parts.epochs;
    this.grants = parts.grants;
  }

  get(name: string, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#parts.calls.run(options.signal, async () => {
      const server = this.#parts.servers.of(name);
      const [record] = await this.#read(server, [name], options.allocate);
      return record;
    });
  }

  getMany(names: readonly string[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#parts.calls.run(options.signal, async () => {
      const read = await this.#parts.servers.each(names, (server, own) => this.#read(server, own));
      const failed = read.find((each) => each.status === 'rejected');
      // A dead server among several costs its own names only.
      if (failed !== undefined && read.every(({ status }) => status === 'rejected')) throw failed.reason;
      return read.map((each) => (each.status === 'fulfilled' ? each.value : undefined));
    });
  }

  put(name: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    return this.#parts.calls.run(options.signal, async () => {
      const length = lengthOfParts(parts);
      if (length > this.#parts.maxRecordBytes) return 'too-large';
      const server = this.#parts.servers.of(name);
      const { token = 0, signal } = options;
      const expiration = expirationOf(options.ttlMs, this.#parts.wallClock);
      // Before a long record is sent; asked again when its manifest goes.
      if (token > 0 && length > this.#parts.itemBytes && (await this.#found(server, name)).token > token)
        return 'superseded';
      const item =
        length <= this.#parts.itemBytes
          ? { kind: KIND.record, value: parts }
          : await this.#putChunks(server, parts, expiration, signal);
      if (typeof item === 'string') return item;
      const request = { key: this.#key(name), extras: storeExtras(item.kind, expiration), value: item.value };
      return token > 0
        ? this.#putFenced(server, name, request, options)
        : outcomeOf(await server.askOne({ opcode: OPCODE.set, ...request }));
    });
  }

  delete(name: string, options: CallOptions = {}): Promise<boolean> {
    return this.#parts.calls.run(options.signal, async () => {
      const answer = await this.#parts.servers.of(name).askOne({ opcode: OPCODE.delete, key: this.#key(name) });
      if (answer.status === STATUS.ok) return true;
      if (answer.status === STATUS.notFound) return false;
      throw refused(answer);
    });
  }

  stats(): StoreStats {
    return {};
  }

  close(): Promise<void> {
    return this.#parts.calls.close(() => this.#parts.servers.close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Two round trips at most: what lies under the names, then the chunks of all that are longer than an item. */
  async #read(
    server: Server,
    names: readonly string[],
    allocate: (lengthBytes: number) => Uint8Array = (lengthBytes) => new Uint8Array(lengthBytes),
  ): Promise<readonly (Uint8Array | undefined)[]> {
    const { maxRecordBytes } = this.#parts;
    const items = await server.ask(names.map((name) => ({ opcode: OPCODE.get, key: this.#key(name) })));
    const manifests = items.map((item) =>
      isFound(item) && item.flags === KIND.manifest ? openManifest(item.value, maxRecordBytes) : undefined,
    );
    const keys = manifests.flatMap((manifest) => (manifest === undefined ? [] : this.#chunkKeys(manifest)));
    const chunks = keys.length === 0 ? [] : await server.ask(keys.map((key) => ({ opcode: OPCODE.get, key })));
    let at = 0;
    return items.map((item, place) => {
      const manifest = manifests[place];
      if (manifest === undefined) return isFound(item) && item.flags === KIND.record ? item.value : undefined;
      const own = chunks.slice(at, (at += chunkCount(manifest)));
      if (!own.every((chunk) => isFound(chunk) && chunk.flags === KIND.chunk)) return undefined;
      return joinChunks(
        manifest,
        own.map(({ value }) => value),
        allocate,
      );
    });
  }

  async #putChunks(
    server: Server,
    parts: readonly Uint8Array[],
    expiration: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly kind: number; readonly value: readonly Uint8Array[] } | PutOutcome> {
    const manifest: Manifest = {
      generation: this.#parts.newGeneration(),
      recordBytes: lengthOfParts(parts),
      chunkBytes: this.#parts.itemBytes - CHUNK_HEAD_BYTES,
      token: tokenOfParts(parts),
    };
    const keys = this.#chunkKeys(manifest);
    const extras = storeExtras(KIND.chunk, expiration);
    for (let from = 0; from < keys.length; from += CHUNKS_AT_ONCE) {
      // Who has given up may use the memory for something else by now.
      throwIfAborted(signal);
      const requests = keys.slice(from, from + CHUNKS_AT_ONCE).map((key, at): Request => {
        return { opcode: OPCODE.set, key, extras, value: chunkParts(parts, manifest, from + at) };
      });
      const outcomes = (await server.ask(requests)).map(outcomeOf);
      const refusal = outcomes.find((outcome) => outcome !== 'stored');
      if (refusal !== undefined) return refusal;
    }
    return { kind: KIND.manifest, value: [sealManifest(manifest)] };
  }

  /** Writes what no greater token stands against: only over what was looked at, and again if that changed meanwhile. */
  async #putFenced(
    server: Server,
    name: string,
    request: Omit<Request, 'opcode'>,
    { token = 0, signal }: PutOptions,
  ): Promise<PutOutcome> {
    for (let left = MAX_CONTENTIONS; left > 0; left--) {
      const found = await this.#found(server, name);
      if (found.token > token) return 'superseded';
      throwIfAborted(signal);
      const answer = await server.askOne(
        found.cas === undefined
          ? { ...request, opcode: OPCODE.add }
          : { ...request, opcode: OPCODE.set, cas: found.cas },
      );
      if (answer.status !== STATUS.exists && answer.status !== STATUS.notFound && answer.status !== STATUS.notStored)
        return outcomeOf(answer);
    }
    throw new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `Others wrote the record ${name} ${MAX_CONTENTIONS} times while it was to be written under a lease; try again.`,
      { key: name },
    );
  }

  async #found(server: Server, name: string): Promise<{ readonly token: number; readonly cas: bigint | undefined }> {
    const item = await server.askOne({ opcode: OPCODE.get, key: this.#key(name) });
    if (!isFound(item)) return { token: 0, cas: undefined };
    if (item.flags === KIND.record) return { token: tokenOf(item.value), cas: item.cas };
    const manifest = openManifest(item.value, Number.MAX_SAFE_INTEGER);
    return { token: manifest?.token ?? 0, cas: item.cas };
  }

  #key(name: string): string {
    return `${this.#parts.prefix}r:${name}`;
  }

  #chunkKeys(manifest: Manifest): readonly string[] {
    const start = `${this.#parts.prefix}c:${Buffer.from(manifest.generation).toString('base64url')}:`;
    return Array.from({ length: chunkCount(manifest) }, (_, place) => start + place);
  }
}

function isFound(item: Response): boolean {
  if (item.status === STATUS.ok) return true;
  if (item.status === STATUS.notFound) return false;
  throw refused(item);
}

function outcomeOf(answer: Response): PutOutcome {
  if (answer.status === STATUS.ok) return 'stored';
  if (answer.status === STATUS.tooLarge) return 'too-large';
  if (answer.status === STATUS.outOfMemory) return 'full';
  throw refused(answer);
}
