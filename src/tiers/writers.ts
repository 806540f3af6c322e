import type { RecordName } from '../stores/store.ts';
import type { Wakeups } from './wakeups.ts';

/** A write that is not acknowledged yet, and may be invalidated before it is held or made. */
export interface Waiting {
  readonly name: RecordName;
  /** It is held, or on its way to the target: those of the same name that came later may follow. */
  isUnderWay: boolean;
  isDiscarded: boolean;
}

/** Writes that are not acknowledged yet, so that those of one name go on in the order in which they came. */
export class Writers {
  readonly #waiting = new Map<RecordName, Set<Waiting>>();
  readonly #changes: Wakeups;

  constructor(changes: Wakeups) {
    this.#changes = changes;
  }

  enter(name: RecordName): Waiting {
    const waiting: Waiting = { name, isUnderWay: false, isDiscarded: false };
    const crowd = this.#waiting.get(name);
    if (crowd === undefined) this.#waiting.set(name, new Set([waiting]));
    else crowd.add(waiting);
    return waiting;
  }

  leave(waiting: Waiting): void {
    this.letFollow(waiting);
    const crowd = this.#waiting.get(waiting.name);
    crowd?.delete(waiting);
    if (crowd?.size === 0) this.#waiting.delete(waiting.name);
  }

  /** Whether every earlier write of that name is under way. */
  isNext(waiting: Waiting): boolean {
    for (const each of this.#waiting.get(waiting.name) ?? []) {
      if (each === waiting) break;
      if (!each.isUnderWay) return false;
    }
    return true;
  }

  letFollow(waiting: Waiting): void {
    if (waiting.isUnderWay) return;
    waiting.isUnderWay = true;
    if ((this.#waiting.get(waiting.name)?.size ?? 0) > 1) this.#changes.wake();
  }

  /** Marks those of the names that match. */
  discard(matches: (name: RecordName) => boolean): void {
    for (const [name, crowd] of this.#waiting) {
      if (matches(name)) for (const waiting of crowd) waiting.isDiscarded = true;
    }
  }
}
