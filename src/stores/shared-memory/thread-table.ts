import type { Entries } from './entries.ts';
import type { Memory } from './handle.ts';
import { HitReader, type ThreadCounts } from './hits.ts';
import { AREA, entryUnits, generationOf, HEADER, MAIL, MAIL_PER_THREAD } from './layout.ts';
import { receiveMessages, type CommitMessage, type MessageReceiver, type ReturnMessage } from './messages.ts';

const NONE = -1;

/** Memory granted to a thread: the blocks of it that have not come back, as entries or unused. */
interface Region {
  readonly segment: number;
  blocks: number[];
}

/** A thread as the owner knows it. */
interface Attached {
  readonly area: number;
  readonly hits: HitReader;
  readonly regions: Map<number, Region>;
  /** Units granted and not come back. */
  openUnits: number;
  /** Whether it has ever asked for memory, and so is to have some in advance. */
  writes: boolean;
  /** Times that it found no place for more messages, as of the last answer to that. */
  stalls: number;
}

/** How much memory may be with threads. */
export interface GrantLimits {
  /** What a thread that writes is to have in advance. */
  readonly standingUnits: number;
  /** What all threads may have together, in advance. */
  readonly aheadUnits: number;
  /** What all threads may have together, with what they have asked for. */
  readonly totalUnits: number;
}

/** The owner's side of all other threads: who is there, what is granted to whom, and what they say. */
export class ThreadTable {
  readonly counts: ThreadCounts & { unreadableMessages: number; refusals: number } = {
    hits: 0,
    misses: 0,
    savedMs: 0,
    unheardHits: 0,
    unreadableMessages: 0,
    refusals: 0,
  };
  readonly #memory: Memory;
  readonly #entries: Entries;
  readonly #limits: GrantLimits;
  readonly #accept: (message: CommitMessage, block: number) => void;
  readonly #threads: (Attached | undefined)[] = [];
  readonly #receivers: MessageReceiver[] = [];
  #rung = 0;
  #lastRegion = 0;
  #openUnits = 0;

  /** @param accept takes in what a thread has committed; the block is the caller's from then on */
  constructor(
    memory: Memory,
    entries: Entries,
    limits: GrantLimits,
    accept: (message: CommitMessage, block: number) => void,
  ) {
    this.#memory = memory;
    this.#entries = entries;
    this.#limits = limits;
    this.#accept = accept;
  }

  /** Units granted to threads and not come back. */
  get openUnits(): number {
    return this.#openUnits;
  }

  /** Threads that are attached, the owner not counted. */
  get attached(): number {
    let attached = 0;
    for (let thread = 1; thread < this.#memory.layout.maxThreads; thread++) if (this.#state(thread) !== 0) attached++;
    return attached;
  }

  /** Does what threads have asked for since the last call. Costs one read if there is nothing. */
  hear(): void {
    const rung = Atomics.load(this.#memory.words, HEADER.doorbell);
    if (rung === this.#rung) return;
    this.#rung = rung;
    for (let thread = 1; thread < this.#memory.layout.maxThreads; thread++) {
      const state = this.#state(thread);
      if (state === 0) continue;
      receiveMessages(this.#memory, this.#areaOf(thread), this.#receiver(thread));
      if (state < 0) this.#clear(thread);
      else this.#serve(this.#attached(thread));
    }
  }

  /** Tells the policy of hits in other threads, and adds up what they counted. */
  hearHits(): void {
    for (let thread = 1; thread < this.#memory.layout.maxThreads; thread++) {
      if (this.#state(thread) !== 0) this.#attached(thread).hits.read(this.counts, this.#touch);
    }
  }

  /** Takes back everything a thread had, which has ended; what it had committed before counts. */
  detach(threadId: number): void {
    for (let thread = 1; thread < this.#memory.layout.maxThreads; thread++) {
      if (Math.abs(this.#state(thread)) === threadId + 1) this.#clear(thread);
    }
  }

  /** Wakes every thread that waits for memory. */
  wakeAll(): void {
    for (let thread = 1; thread < this.#memory.layout.maxThreads; thread++) this.#answer(this.#areaOf(thread));
  }

  readonly #touch = (slot: number, generation: number): void => {
    // Another entry may lie there by now.
    if (!this.#entries.isLive(slot) || generationOf(this.#entries.state(slot)) !== generation) return;
    this.#entries.touch(slot);
  };

  #areaOf(thread: number): number {
    return this.#memory.layout.areasAt + thread * AREA.words;
  }

  #state(thread: number): number {
    return Atomics.load(this.#memory.words, this.#areaOf(thread) + AREA.state);
  }

  #attached(thread: number): Attached {
    const area = this.#areaOf(thread);
    return (this.#threads[thread] ??= {
      area,
      hits: new HitReader(this.#memory, area),
      regions: new Map(),
      openUnits: 0,
      writes: false,
      stalls: 0,
    });
  }

  #receiver(thread: number): MessageReceiver {
    return (this.#receivers[thread] ??= {
      commit: (message) => this.#commit(this.#attached(thread), message),
      giveBack: (message) => this.#giveBack(this.#attached(thread), message),
      want: (units) => this.#want(this.#attached(thread), units),
      unreadable: () => void this.counts.unreadableMessages++,
    });
  }

  #commit(thread: Attached, message: CommitMessage): void {
    const block = this.#carve(thread, message);
    if (block === NONE) return;
    const units = entryUnits(message.lengthBytes, message.metadataBytes);
    const { allocator } = this.#entries;
    // The thread may have reserved more than it needed, or say that it wrote more than it has.
    if (units > allocator.units(block) || message.metadataBytes > 0xffff) {
      allocator.free(block);
      this.counts.unreadableMessages++;
      return;
    }
    if (units < allocator.units(block)) allocator.free(allocator.split(block, units));
    this.#accept(message, block);
  }

  #giveBack(thread: Attached, message: ReturnMessage): void {
    const block = this.#carve(thread, message);
    if (block !== NONE) this.#entries.allocator.free(block);
  }

  /** The part of a region that a message is about, as a block of its own; -1 if the thread does not have that. */
  #carve(thread: Attached, { region: id, offset, units }: ReturnMessage): number {
    const { allocator } = this.#entries;
    const region = thread.regions.get(id);
    const found = region?.blocks.find(
      (each) => allocator.start(each) <= offset && offset + units <= allocator.start(each) + allocator.units(each),
    );
    if (region === undefined || found === undefined || units === 0) {
      this.counts.unreadableMessages++;
      return NONE;
    }
    const before = offset - allocator.start(found);
    const block = before === 0 ? found : allocator.split(found, before);
    const left = region.blocks.filter((each) => each !== found);
    if (before > 0) left.push(found);
    if (allocator.units(block) > units) left.push(allocator.split(block, units));
    region.blocks = left;
    if (left.length === 0) thread.regions.delete(id);
    thread.openUnits -= units;
    this.#openUnits -= units;
    return block;
  }

  #want(thread: Attached, units: number): void {
    thread.writes = true;
    const { standingUnits, totalUnits } = this.#limits;
    const granted =
      (units <= standingUnits && this.#grant(thread, standingUnits, totalUnits)) ||
      (units > 0 && this.#grant(thread, units, totalUnits));
    if (granted) return;
    this.counts.refusals++;
    Atomics.add(this.#memory.words, thread.area + AREA.refusals, 1);
    this.#answer(thread.area);
  }

  /** After a thread's messages have been read. */
  #serve(thread: Attached): void {
    this.#topUp(thread);
    const stalls = Atomics.load(this.#memory.words, thread.area + AREA.stalls);
    if (stalls === thread.stalls) return;
    thread.stalls = stalls;
    this.#answer(thread.area);
  }

  /** A thread that has used up half of what it has in advance gets as much again. */
  #topUp(thread: Attached): void {
    const { standingUnits, aheadUnits } = this.#limits;
    if (!thread.writes || 2 * thread.openUnits >= standingUnits) return;
    this.#grant(thread, standingUnits, aheadUnits);
  }

  #grant(thread: Attached, units: number, limitUnits: number): boolean {
    const mail = this.#freeMail(thread.area);
    if (mail === NONE || this.#openUnits + units > limitUnits) return false;
    const block = this.#entries.allocate(units);
    if (block === NONE) return false;
    const { allocator } = this.#entries;
    this.#lastRegion = this.#lastRegion === 0x7fff_ffff ? 1 : this.#lastRegion + 1;
    thread.regions.set(this.#lastRegion, { segment: allocator.segment(block), blocks: [block] });
    thread.openUnits += units;
    this.#openUnits += units;
    const { words } = this.#memory;
    words[mail + MAIL.segment] = allocator.segment(block);
    words[mail + MAIL.offset] = allocator.start(block);
    words[mail + MAIL.units] = units;
    Atomics.store(words, mail + MAIL.region, this.#lastRegion);
    this.#answer(thread.area);
    return true;
  }

  #freeMail(area: number): number {
    for (let i = 0; i < MAIL_PER_THREAD; i++) {
      const mail = area + AREA.mail + i * MAIL.words;
      if (Atomics.load(this.#memory.words, mail + MAIL.region) === 0) return mail;
    }
    return NONE;
  }

  #answer(area: number): void {
    Atomics.add(this.#memory.words, area + AREA.grantTurn, 1);
    Atomics.notify(this.#memory.words, area + AREA.grantTurn);
  }

  /** Makes an area as it was at the beginning. Its thread has ended, or has closed it with nothing left in its hands. */
  #clear(thread: number): void {
    const { words } = this.#memory;
    const attached = this.#attached(thread);
    receiveMessages(this.#memory, attached.area, this.#receiver(thread));
    attached.hits.read(this.counts, this.#touch);
    for (const { blocks } of attached.regions.values()) {
      for (const block of blocks) this.#entries.allocator.free(block);
    }
    this.#openUnits -= attached.openUnits;
    this.#threads[thread] = undefined;
    words.fill(0, attached.area + AREA.state + 1, attached.area + AREA.words);
    Atomics.store(words, attached.area + AREA.state, 0);
    // A wait for memory that was under way when the thread closed finds that it did.
    Atomics.notify(words, attached.area + AREA.grantTurn);
  }
}
