import assert from 'node:assert/strict';

import type { Random } from '../../src/base/random.ts';
import type { PutOptions, PutOutcome } from '../../src/stores/store.ts';
import type { WriteTarget } from '../../src/tiers/flusher.ts';

/** Lets others go on. */
export const turns: (count?: number) => Promise<void> = async (count = 200): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await Promise.resolve();
};

/** A target that takes its time, and fails as long as it is told to. */
export class SlowTarget implements WriteTarget {
  readonly name: string = 'tier';
  readonly records: Map<string, Uint8Array> = new Map();
  readonly puts: {
    readonly name: string;
    readonly bytes: Uint8Array;
    readonly options: PutOptions | undefined;
    readonly failed: boolean;
  }[] = [];
  readonly #random: Random;
  readonly #running = new Map<string, number>();
  isFailing: boolean = false;
  /** Writes wait for that, if it is there. */
  gate: Promise<void> | undefined;
  outcome: PutOutcome = 'stored';
  refuses: (name: string) => boolean = () => false;
  running: number = 0;
  mostRunning: number = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  async put(name: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome | undefined> {
    this.mostRunning = Math.max(this.mostRunning, ++this.running);
    this.#running.set(name, (this.#running.get(name) ?? 0) + 1);
    assert.equal(this.#running.get(name), 1, `two writes of ${name} at a time`);
    const bytes = Uint8Array.from(Buffer.concat(parts));
    await turns(this.#random.below(20));
    await this.gate;
    this.running--;
    this.#running.set(name, 0);
    const failed = this.isFailing || this.refuses(name);
    this.puts.push({ name, bytes, options, failed });
    if (failed) return undefined;
    if (this.outcome === 'stored') this.records.set(name, bytes);
    return this.outcome;
  }

  async delete(name: string): Promise<boolean> {
    await turns(this.#random.below(20));
    return this.records.delete(name);
  }
}
