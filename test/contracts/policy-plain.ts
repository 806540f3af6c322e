/** The policies in their plainest form, as their papers tell them: slow, over arrays, to hold the fast ones to. */
import type { Policy, PolicyContext } from '../../src/policies/policy.ts';

/** A queue whose front is at index 0. */
class Queue {
  readonly slots: number[] = [];

  push(slot: number): void {
    this.slots.unshift(slot);
  }

  drop(slot: number): boolean {
    const at = this.slots.indexOf(slot);
    if (at >= 0) this.slots.splice(at, 1);
    return at >= 0;
  }

  renew(slot: number): void {
    this.drop(slot);
    this.push(slot);
  }

  /** The last that is not pinned; pinned ones go to the front on the way. */
  oldest(context: PolicyContext): number {
    for (const slot of this.slots.toReversed()) {
      if (!context.isPinned(slot)) return slot;
      this.renew(slot);
    }
    return -1;
  }
}

export function plainLru(context: PolicyContext): Policy {
  const queue = new Queue();
  return {
    name: 'plain lru',
    insert: (slot) => queue.push(slot),
    touch: (slot) => queue.renew(slot),
    update: () => undefined,
    leave: (slot) => void queue.drop(slot),
    victim: () => queue.oldest(context),
  };
}

export function plainFifo(context: PolicyContext): Policy {
  return { ...plainLru(context), name: 'plain fifo', touch: () => undefined };
}

/** Search for the lowest priority, oldest first among equals. */
export function plainGreedyDual(context: PolicyContext, worth: (slot: number, uses: number) => number): Policy {
  const entries = new Map<number, { uses: number; priority: number; order: number }>();
  let age = 0;
  let counter = 0;
  const rank = (slot: number, uses: number): void =>
    void entries.set(slot, { uses, priority: age + worth(slot, uses), order: counter++ });
  return {
    name: 'plain greedy dual',
    insert: (slot) => rank(slot, 1),
    touch: (slot) => rank(slot, (entries.get(slot)?.uses ?? 0) + 1),
    update: (slot) => rank(slot, entries.get(slot)?.uses ?? 0),
    leave(slot, why) {
      if (why === 'evicted') age = Math.max(age, entries.get(slot)?.priority ?? 0);
      entries.delete(slot);
    },
    victim() {
      const free = [...entries].filter(([slot]) => !context.isPinned(slot));
      return free.toSorted(([, a], [, b]) => a.priority - b.priority || a.order - b.order)[0]?.[0] ?? -1;
    },
  };
}

export function plainSieve(context: PolicyContext): Policy {
  const queue = new Queue();
  const visited = new Set<number>();
  let hand: number | undefined;
  const nextOf = (slot: number): number | undefined => queue.slots[queue.slots.indexOf(slot) - 1];
  return {
    name: 'plain sieve',
    insert(slot) {
      queue.push(slot);
    },
    touch: (slot) => void visited.add(slot),
    update: () => undefined,
    leave(slot) {
      if (hand === slot) hand = nextOf(slot);
      visited.delete(slot);
      queue.drop(slot);
    },
    victim() {
      for (let looked = 0; looked < 2 * queue.slots.length; looked++) {
        hand ??= queue.slots.at(-1);
        if (hand === undefined) return -1;
        if (!context.isPinned(hand) && !visited.has(hand)) return hand;
        visited.delete(hand);
        hand = nextOf(hand);
      }
      return -1;
    },
  };
}

/** Ghosts with their bytes, oldest first. */
class PlainGhosts {
  readonly #bytes = new Map<number, number>();

  get length(): number {
    return this.#bytes.size;
  }

  get bytes(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  remember(identity: number, bytes: number): void {
    this.#bytes.delete(identity);
    this.#bytes.set(identity, bytes);
  }

  forget(identity: number): boolean {
    return this.#bytes.delete(identity);
  }

  trim(length: number, bytes: number): void {
    for (const identity of this.#bytes.keys()) {
      if (this.length <= length && this.bytes <= bytes) return;
      this.#bytes.delete(identity);
    }
  }
}

/** Slots a policy has seen, rounded up as its arrays are. */
class SlotsSeen {
  capacity = 64;

  see(slot: number): void {
    while (this.capacity <= slot) this.capacity *= 2;
  }
}

export function plainS3Fifo(context: PolicyContext): Policy {
  const small = new Queue();
  const main = new Queue();
  const uses = new Map<number, number>();
  const sizes = new Map<number, number>();
  const ghosts = new PlainGhosts();
  const seen = new SlotsSeen();
  const target = context.budgetBytes * 0.1;
  let named = -1;
  const mayGo = (slot: number): boolean =>
    !context.isPinned(slot) && (uses.get(slot) ?? 0) < (small.slots.includes(slot) ? 2 : 1);
  const smallVictim = (): number => {
    for (const slot of small.slots.toReversed()) {
      if (context.isPinned(slot)) small.renew(slot);
      else if ((uses.get(slot) ?? 0) < 2) return slot;
      else {
        small.drop(slot);
        main.push(slot);
        uses.set(slot, 0);
      }
    }
    return -1;
  };
  const mainVictim = (): number => {
    for (let round = 0; round < 4; round++) {
      for (const slot of main.slots.toReversed()) {
        const left = uses.get(slot) ?? 0;
        if (!context.isPinned(slot) && left === 0) return slot;
        uses.set(slot, Math.max(0, left - 1));
        main.renew(slot);
      }
    }
    return -1;
  };
  return {
    name: 'plain s3-fifo',
    insert(slot) {
      seen.see(slot);
      uses.set(slot, 0);
      sizes.set(slot, context.sizeBytes(slot));
      (ghosts.forget(context.identity(slot)) ? main : small).push(slot);
    },
    touch: (slot) => void uses.set(slot, Math.min(3, (uses.get(slot) ?? 0) + 1)),
    update: (slot) => void sizes.set(slot, context.sizeBytes(slot)),
    leave(slot, why) {
      const wasSmall = small.drop(slot);
      main.drop(slot);
      if (slot === named) named = -1;
      if (!wasSmall || why === 'removed') return;
      ghosts.remember(context.identity(slot), sizes.get(slot) ?? 0);
      ghosts.trim(seen.capacity, context.budgetBytes - target);
    },
    victim() {
      if (named >= 0 && mayGo(named)) return named;
      const smallBytes = small.slots.reduce((sum, slot) => sum + (sizes.get(slot) ?? 0), 0);
      named = smallBytes >= target || main.slots.length === 0 ? -1 : mainVictim();
      if (named < 0) named = smallVictim();
      if (named < 0) named = mainVictim();
      return named;
    },
  };
}

export function plainArc(context: PolicyContext): Policy {
  const lists = { once: new Queue(), often: new Queue() };
  const ghosts = { once: new PlainGhosts(), often: new PlainGhosts() };
  const sizes = new Map<number, number>();
  const seen = new SlotsSeen();
  let target = 0;
  const bytesOf = ({ slots }: Queue): number => slots.reduce((sum, slot) => sum + (sizes.get(slot) ?? 0), 0);
  const trim = (): void => {
    const { budgetBytes } = context;
    ghosts.once.trim(seen.capacity, budgetBytes - bytesOf(lists.once));
    ghosts.often.trim(
      2 * seen.capacity - ghosts.once.length,
      2 * budgetBytes - bytesOf(lists.once) - bytesOf(lists.often) - ghosts.once.bytes,
    );
  };
  return {
    name: 'plain arc',
    insert(slot) {
      seen.see(slot);
      const bytes = context.sizeBytes(slot);
      sizes.set(slot, bytes);
      const once = ghosts.once.bytes;
      const often = ghosts.often.bytes;
      if (ghosts.once.forget(context.identity(slot))) {
        target = Math.min(context.budgetBytes, target + bytes * Math.max(1, often / Math.max(1, once)));
        lists.often.push(slot);
      } else if (ghosts.often.forget(context.identity(slot))) {
        target = Math.max(0, target - bytes * Math.max(1, once / Math.max(1, often)));
        lists.often.push(slot);
      } else lists.once.push(slot);
      trim();
    },
    touch(slot) {
      lists.once.drop(slot);
      lists.often.renew(slot);
    },
    update(slot) {
      sizes.set(slot, context.sizeBytes(slot));
      trim();
    },
    leave(slot, why) {
      const from = lists.once.drop(slot) ? 'once' : 'often';
      lists.often.drop(slot);
      if (why === 'removed') return;
      ghosts[from].remember(context.identity(slot), sizes.get(slot) ?? 0);
      trim();
    },
    victim() {
      const onceBytes = bytesOf(lists.once);
      const order = onceBytes > 0 && onceBytes > target ? [lists.once, lists.often] : [lists.often, lists.once];
      for (const list of order) {
        const victim = list.oldest(context);
        if (victim >= 0) return victim;
      }
      return -1;
    },
  };
}
