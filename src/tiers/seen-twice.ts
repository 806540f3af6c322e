// Two generations of names: one is filled, the one before is still known. What was seen once is forgotten after so many others.
const GENERATION = 8192;

/** Tells names that are asked for a second time from those asked for once, within bounded memory. */
export class SeenTwice {
  #present = new Set<string>();
  #before = new Set<string>();

  /** Whether the name was seen before; from now on it was. */
  see(name: string): boolean {
    const wasSeen = this.#present.has(name) || this.#before.has(name);
    this.#present.add(name);
    if (this.#present.size >= GENERATION) {
      this.#before = this.#present;
      this.#present = new Set();
    }
    return wasSeen;
  }
}
