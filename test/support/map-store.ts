import { throwIfAborted } from '../../src/base/cancellation.ts';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { InferkvError } from '../../src/base/errors.ts';
import { tokenOf } from '../../src/stores/record.ts';
import type {
  CallOptions,
  EpochAuthority,
  EpochListener,
  GrantAuthority,
  PutOptions,
  PutOutcome,
  Store,
  StoreStats,
  StoreTraits,
} from '../../src/stores/store.ts';

interface Kept {
  readonly bytes: Uint8Array;
  readonly until: number;
}

/** What several map stores share, as several clients share one server. */
export class MapServer {
  readonly records: Map<string, Kept> = new Map();
  readonly epochs: Map<string, number> = new Map();
  readonly grants: Map<string, { readonly token: number; readonly until: number }> = new Map();
  readonly listeners: Set<EpochListener> = new Set();
  readonly clock: Clock;
  lastToken = 0;
  base = 1000;

  constructor(clock: Clock = systemClock) {
    this.clock = clock;
  }
}

/** The plain form of the contract: a store in a map, for tests of what is built upon stores. */
export class MapStore implements Store {
  readonly name: string;
  readonly traits: StoreTraits = { maxRecordBytes: 64 * 2 ** 20, persistent: false, reach: 'network' };
  readonly server: MapServer;
  #closed = false;

  constructor(name = 'map', server: MapServer = new MapServer()) {
    this.name = name;
    this.server = server;
  }

  async get(name: string, options: CallOptions = {}): Promise<Uint8Array | undefined> {
    this.#check(options);
    return this.#find(name)?.slice();
  }

  async getMany(names: readonly string[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    this.#check(options);
    return names.map((name) => this.#find(name)?.slice());
  }

  async put(name: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    this.#check(options);
    const { ttlMs = Number.POSITIVE_INFINITY, token = 0 } = options;
    const bytes = Uint8Array.from(Buffer.concat(parts));
    if (bytes.length > this.traits.maxRecordBytes) return 'too-large';
    const old = this.#find(name);
    if (token > 0 && old !== undefined && tokenOf(old) > token) return 'superseded';
    this.server.records.set(name, { bytes, until: this.server.clock.now() + ttlMs });
    return 'stored';
  }

  async delete(name: string, options: CallOptions = {}): Promise<boolean> {
    this.#check(options);
    return this.server.records.delete(name);
  }

  readonly epochs: EpochAuthority = {
    read: async (scopes, options = {}) => {
      this.#check(options);
      return scopes.map((scope) => this.server.epochs.get(scope) ?? this.server.base);
    },
    bump: async (scopes, options = {}) => {
      this.#check(options);
      const { epochs, base, listeners } = this.server;
      return scopes.map((scope) => {
        const epoch = (epochs.get(scope) ?? base) + 1;
        epochs.set(scope, epoch);
        for (const listener of listeners) listener.bumped(scope, epoch);
        return epoch;
      });
    },
    subscribe: (listener) => {
      this.server.listeners.add(listener);
      listener.inStep(true);
      return async () => void this.server.listeners.delete(listener);
    },
  };

  readonly grants: GrantAuthority = {
    acquire: async (name, ttlMs, options = {}) => {
      this.#check(options);
      const { grants, clock } = this.server;
      const now = clock.now();
      if ((grants.get(name)?.until ?? 0) > now) return undefined;
      const token = ++this.server.lastToken;
      grants.set(name, { token, until: now + ttlMs });
      return token;
    },
    renew: async (name, token, ttlMs, options = {}) => {
      this.#check(options);
      const { grants, clock } = this.server;
      const found = grants.get(name);
      if (found?.token !== token || found.until <= clock.now()) return false;
      grants.set(name, { token, until: clock.now() + ttlMs });
      return true;
    },
    release: async (name, token, options = {}) => {
      this.#check(options);
      if (this.server.grants.get(name)?.token === token) this.server.grants.delete(name);
    },
  };

  stats(): StoreStats {
    return { records: this.server.records.size };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #find(name: string): Uint8Array | undefined {
    const found = this.server.records.get(name);
    return found === undefined || found.until <= this.server.clock.now() ? undefined : found.bytes;
  }

  #check({ signal }: CallOptions): void {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The store is closed.');
    throwIfAborted(signal);
  }
}
