/** Which keys of the sample were used lately: a set of hashes in one table, bounded by whoever fills it. */
export class SeenKeys {
  /** Hash + 1 at its place or behind it, 0 where it is empty. */
  #table: Float64Array;
  #length = 0;

  /** @param most keys it is to hold at most */
  constructor(most: number) {
    this.#table = new Float64Array(2 ** Math.ceil(Math.log2(2 * most + 2)));
  }

  get length(): number {
    return this.#length;
  }

  /** Adds a key by its well-mixed hash. */
  add(hash: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let place = hash & mask;
    for (; table[place] !== 0; place = (place + 1) & mask) if (table[place] === hash + 1) return;
    table[place] = hash + 1;
    this.#length++;
  }

  /** Lets go of those whose hash is not below that. */
  keepBelow(limit: number): void {
    const kept = this.#table.filter((held) => held > 0 && held <= limit);
    this.clear();
    for (const held of kept) this.add(held - 1);
  }

  clear(): void {
    this.#table.fill(0);
    this.#length = 0;
  }
}
