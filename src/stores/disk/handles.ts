import { join } from 'node:path';

import { codeOf, type FileLayer } from './files.ts';

interface Held {
  readonly fd: Promise<number>;
  users: number;
  isDoomed: boolean;
}

/** Segment files held open: the least lately used are closed beyond a number. A descriptor is never closed while it is used. */
export class Handles {
  readonly #files: FileLayer;
  readonly #folder: string;
  readonly #max: number;
  /** In the order of their last use. */
  readonly #held = new Map<string, Held>();

  constructor(files: FileLayer, folder: string, max: number) {
    this.#files = files;
    this.#folder = folder;
    this.#max = max;
  }

  /** Does something with a file, open for reading. */
  async use<T>(file: string, work: (fd: number) => Promise<T>): Promise<T> {
    let held = this.#held.get(file);
    if (held === undefined) held = { fd: this.#files.open(join(this.#folder, file), 'r'), users: 0, isDoomed: false };
    else this.#held.delete(file);
    this.#held.set(file, held);
    held.users++;
    if (this.#held.size > this.#max) this.#closeOldest();
    try {
      return await work(await held.fd);
    } catch (error) {
      // One that could not be opened is tried anew.
      held.fd.catch(() => this.#held.get(file) === held && this.#held.delete(file));
      if (codeOf(error) === 'EMFILE' || codeOf(error) === 'ENFILE') this.#closeIdle();
      throw error;
    } finally {
      held.users--;
      this.#closeIfDone(held);
    }
  }

  /** Closes a file as soon as nobody uses it: one that was reclaimed would keep its place on the disk. */
  forget(file: string): void {
    const held = this.#held.get(file);
    if (held === undefined) return;
    this.#held.delete(file);
    held.isDoomed = true;
    this.#closeIfDone(held);
  }

  /** Forgets those that `isWanted` says no to. */
  prune(isWanted: (file: string) => boolean): void {
    for (const file of this.#held.keys()) if (!isWanted(file)) this.forget(file);
  }

  #closeOldest(): void {
    for (const [file, held] of this.#held) {
      if (held.users > 0) continue;
      this.forget(file);
      if (this.#held.size <= this.#max) return;
    }
  }

  #closeIdle(): void {
    for (const [file, held] of this.#held) if (held.users === 0) this.forget(file);
  }

  #closeIfDone(held: Held): void {
    if (!held.isDoomed || held.users > 0) return;
    held.isDoomed = false;
    held.fd.then((fd) => this.#files.close(fd)).catch(() => undefined);
  }
}
