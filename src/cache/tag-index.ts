/** Slots by tag. */
export class TagIndex {
  readonly #slots = new Map<string, Set<number>>();

  add(slot: number, tags: readonly string[]): void {
    for (const tag of tags) {
      const tagged = this.#slots.get(tag);
      if (tagged === undefined) this.#slots.set(tag, new Set([slot]));
      else tagged.add(slot);
    }
  }

  remove(slot: number, tags: readonly string[]): void {
    for (const tag of tags) {
      const tagged = this.#slots.get(tag);
      tagged?.delete(slot);
      if (tagged?.size === 0) this.#slots.delete(tag);
    }
  }

  /** The slots of a tag as they are now. */
  slotsOf(tag: string): readonly number[] {
    return [...(this.#slots.get(tag) ?? [])];
  }

  has(tag: string, slot: number): boolean {
    return this.#slots.get(tag)?.has(slot) === true;
  }

  /** The tags with the most entries, most first. */
  largest(limit: number): readonly (readonly [tag: string, slots: ReadonlySet<number>])[] {
    return [...this.#slots].toSorted(([, a], [, b]) => b.size - a.size).slice(0, limit);
  }
}
