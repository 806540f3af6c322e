import { createPolicy } from '../src/policies/registry.ts';
import type { Policy } from '../src/policies/policy.ts';
import type { UseListener } from '../src/telemetry/use-listener.ts';

/** Room for entries; whoever measures stays below. */
const SLOTS = 1 << 16;

/** The least that a partition with a byte budget and a policy can be: no expiry, leases or tags. For measuring listeners. */
export class PlainPartition<V> {
  readonly #budgetBytes: number;
  readonly #listener: UseListener | undefined;
  readonly #policy: Policy;
  readonly #index = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #values: (V | undefined)[] = [];
  readonly #sizes = new Float64Array(SLOTS);
  readonly #costs = new Float64Array(SLOTS);
  readonly #identities = new Int32Array(SLOTS);
  readonly #free: number[] = [];
  #usedBytes = 0;

  constructor(budgetBytes: number, listener: UseListener | undefined) {
    this.#budgetBytes = budgetBytes;
    this.#listener = listener;
    this.#policy = createPolicy('lru', {
      sizeBytes: (slot) => this.#sizes[slot] ?? 0,
      costMs: (slot) => this.#costs[slot] ?? 0,
      identity: (slot) => this.#identities[slot] ?? 0,
      parent: () => -1,
      isPinned: () => false,
      now: () => 0,
      random: () => 0,
      budgetBytes,
    });
  }

  get(key: string): V | undefined {
    const slot = this.#index.get(key);
    if (slot === undefined) return undefined;
    this.#policy.touch(slot);
    if (this.#listener?.wants(this.#identities[slot] ?? 0) === true) this.#tell(slot, true);
    return this.#values[slot];
  }

  set(key: string, value: V, sizeBytes: number, costMs: number): void {
    while (this.#usedBytes + sizeBytes > this.#budgetBytes) this.#evict();
    const slot = this.#free.pop() ?? this.#keys.length;
    this.#keys[slot] = key;
    this.#values[slot] = value;
    this.#sizes[slot] = sizeBytes;
    this.#costs[slot] = costMs;
    const identity = fingerprint(key);
    this.#identities[slot] = identity;
    this.#usedBytes += sizeBytes;
    this.#index.set(key, slot);
    this.#policy.insert(slot);
    if (this.#listener?.wants(identity) === true) this.#tell(slot, false);
  }

  #tell(slot: number, isHit: boolean): void {
    this.#listener?.used(
      this.#keys[slot] ?? '',
      this.#identities[slot] ?? 0,
      this.#sizes[slot] ?? 0,
      this.#costs[slot] ?? 0,
      isHit,
    );
  }

  #evict(): void {
    const slot = this.#policy.victim();
    this.#policy.leave(slot, 'evicted');
    this.#usedBytes -= this.#sizes[slot] ?? 0;
    this.#index.delete(this.#keys[slot] ?? '');
    this.#values[slot] = undefined;
    this.#free.push(slot);
  }
}

/** Signed, as small whole numbers of 32 bits travel without a box. */
function fingerprint(key: string): number {
  let hash = 0x811c9dc5 | 0;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return hash;
}
