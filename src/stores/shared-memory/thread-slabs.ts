import { InferkvError } from '../../base/errors.ts';
import type { Memory } from './handle.ts';
import { AREA, entryUnits, HEADER, KIND, MAIL, MAIL_PER_THREAD, metadataAt, UNIT_BYTES } from './layout.ts';
import { doFit } from './lengths.ts';
import { MessageSender } from './messages.ts';

/** Moments of writing at which a test may let the thread die. */
export type WriteStep = 'reserved' | 'written' | 'published';

/** What a writer says about an entry. */
export interface SharedEntryFacts {
  /** Milliseconds it took to load or compute the value, measured. */
  readonly costMs: number;
  /** Milliseconds until it expires; `Infinity` if left out. */
  readonly ttlMs?: number;
  /** Up to 65,535 bytes that lie with the value: its types and shapes, say. */
  readonly metadata?: Uint8Array;
}

/** A run of memory that the owner has granted to this thread, used from its beginning. */
interface Region {
  readonly id: number;
  readonly segment: number;
  readonly units: number;
  /** The next unit that is not reserved. */
  next: number;
  readonly end: number;
}

/** Memory of the store that this thread may write to, until it is committed or abandoned. */
export class WritableSlab implements Disposable {
  /** As many bytes as were reserved. They hold whatever lay there before: write all of them. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** @internal */
  readonly region: number;
  /** @internal */
  readonly offset: number;
  /** @internal */
  readonly units: number;
  /** The store's epoch when it was reserved: what is committed after an `invalidate()` meanwhile is never seen. */
  readonly epoch: number;
  readonly #end: (slab: WritableSlab) => void;
  #open = true;

  constructor(
    bytes: Uint8Array<SharedArrayBuffer>,
    place: { region: number; offset: number; units: number; epoch: number },
    end: (slab: WritableSlab) => void,
  ) {
    this.bytes = bytes;
    this.region = place.region;
    this.offset = place.offset;
    this.units = place.units;
    this.epoch = place.epoch;
    this.#end = end;
  }

  /** Gives the memory back unused; does nothing after a commit. */
  abandon(): void {
    if (this.close()) this.#end(this);
  }

  [Symbol.dispose](): void {
    this.abandon();
  }

  /** @internal Ends it; `false` if it has ended before. */
  close(): boolean {
    const open = this.#open;
    this.#open = false;
    return open;
  }
}

/** What one thread writes: its regions, what it has reserved of them, and its messages to the owner. */
export class ThreadSlabs {
  readonly #memory: Memory;
  readonly #area: number;
  readonly #sender: MessageSender;
  readonly #step: ((step: WriteStep) => void) | undefined;
  readonly #onIdle: () => void;
  #regions: Region[] = [];
  #outstanding = 0;
  /** `grantTurn` when bytes were last asked for; the owner's answer changes it. */
  #askedAt: number | undefined;

  constructor(memory: Memory, area: number, onIdle: () => void, step?: (step: WriteStep) => void) {
    this.#memory = memory;
    this.#area = area;
    this.#sender = new MessageSender(memory, area);
    this.#onIdle = onIdle;
    this.#step = step;
  }

  /** Slabs reserved and neither committed nor abandoned. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Memory for a value and its metadata, or `undefined` if nothing granted is long enough; the owner is asked for it then. */
  reserve(lengthBytes: number, metadataBytes: number): WritableSlab | undefined {
    const units = entryUnits(lengthBytes, metadataBytes);
    this.#collect();
    // Each slab must find room for its commit, however many messages wait; one more is kept for asking.
    if (this.#room() < 2 && this.#isStalled()) return undefined;
    const region = this.#bestRegion(units);
    if (region === undefined) {
      this.ask(units);
      return undefined;
    }
    const offset = region.next;
    region.next += units;
    if (region.next === region.end) this.#regions = this.#regions.filter((each) => each !== region);
    this.#outstanding++;
    const { words, segments } = this.#memory;
    const bytes = new Uint8Array(segments[region.segment] as SharedArrayBuffer, offset * UNIT_BYTES, lengthBytes);
    const epoch = Atomics.load(words, HEADER.epoch);
    const slab = new WritableSlab(bytes, { region: region.id, offset, units, epoch }, this.#giveBack);
    this.#step?.('reserved');
    return slab;
  }

  /** Asks the owner for a region of so many units, once until it answers. */
  ask(units: number): void {
    const turn = Atomics.load(this.#memory.words, this.#area + AREA.grantTurn);
    if (this.#askedAt === turn || this.#room() < 1) return;
    this.#seal(units);
    if (this.#room() < 1) return;
    this.#askedAt = turn;
    this.#sender.send(KIND.want, { region: 0, offset: 0, units });
  }

  commit(slab: WritableSlab, key: Int32Array, lengthBytes: number, facts: SharedEntryFacts, expiresAt: number): void {
    const metadata = facts.metadata ?? new Uint8Array(0);
    if (lengthBytes > slab.bytes.length || !doFit(lengthBytes, metadata.length, slab.units)) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        `The value (${lengthBytes} bytes) and its metadata (${metadata.length}) do not fit in the slab; reserve more.`,
      );
    }
    if (!slab.close()) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        'The slab was committed or abandoned before; reserve another one.',
      );
    }
    const { buffer, byteOffset } = slab.bytes;
    new Uint8Array(buffer).set(metadata, byteOffset + metadataAt(lengthBytes));
    this.#sender.writeCommit({
      region: slab.region,
      offset: slab.offset,
      units: slab.units,
      lengthBytes,
      metadataBytes: metadata.length,
      costMs: facts.costMs,
      epoch: slab.epoch,
      expiresAt,
      key,
    });
    this.#step?.('written');
    this.#sender.publish();
    this.#step?.('published');
    this.#ended();
  }

  readonly #giveBack = (slab: WritableSlab): void => {
    this.#sender.send(KIND.abandon, slab);
    this.#ended();
  };

  #ended(): void {
    this.#outstanding--;
    if (this.#outstanding === 0) this.#onIdle();
  }

  /** Messages there is room for beyond those that outstanding slabs will need. */
  #room(): number {
    return this.#sender.room - this.#outstanding;
  }

  /**
   * Has the owner answer once it has read messages, for nothing else may change then that a wait could end by; `false` if it
   * has read some just now.
   */
  #isStalled(): boolean {
    // The owner reads first and looks for stalls then, so one of the two sees what the other has written.
    Atomics.add(this.#memory.words, this.#area + AREA.stalls, 1);
    return this.#room() < 2;
  }

  /** Takes over regions that the owner has put into the thread's mail. */
  #collect(): void {
    const { words } = this.#memory;
    for (let i = 0; i < MAIL_PER_THREAD; i++) {
      const mail = this.#area + AREA.mail + i * MAIL.words;
      const id = Atomics.load(words, mail + MAIL.region);
      if (id === 0) continue;
      const next = words[mail + MAIL.offset] as number;
      const units = words[mail + MAIL.units] as number;
      this.#regions.push({ id, segment: words[mail + MAIL.segment] as number, units, next, end: next + units });
      Atomics.store(words, mail + MAIL.region, 0);
    }
  }

  #bestRegion(units: number): Region | undefined {
    let best: Region | undefined;
    for (const region of this.#regions) {
      if (region.end - region.next < units) continue;
      if (best === undefined || region.end - region.next < best.end - best.next) best = region;
    }
    return best;
  }

  /** Gives back the rest of regions that are used up so far that even a fresh one's worth does not fit any more. */
  #seal(units: number): void {
    for (const region of this.#regions) {
      if (units > region.units || this.#room() < 2) continue;
      this.#regions = this.#regions.filter((each) => each !== region);
      this.#sender.send(KIND.seal, { region: region.id, offset: region.next, units: region.end - region.next });
    }
  }
}
