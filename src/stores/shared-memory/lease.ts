import { InferkvError } from '../../base/errors.ts';
import type { Memory } from './handle.ts';
import { metadataAt, RECORD, UNIT_BYTES } from './layout.ts';
import type { Pins } from './pins.ts';

/**
 * A hold on an entry: its bytes stay as they are until it is released, whatever happens to the entry meanwhile. For the
 * thread that took it. Views must not be touched after the release; they are never to be written to.
 */
export class SharedLease implements Disposable {
  readonly #memory: Memory;
  readonly #pins: Pins;
  readonly #record: number;
  readonly #forgotten: FinalizationRegistry<Uint8Array> | undefined;
  #pin: number;
  #bytes: Uint8Array<SharedArrayBuffer> | undefined;

  /** @param forgotten where the lease was registered, to be told of it if nobody releases it */
  constructor(memory: Memory, pins: Pins, pin: number, slot: number, forgotten?: FinalizationRegistry<Uint8Array>) {
    this.#memory = memory;
    this.#forgotten = forgotten;
    this.#pins = pins;
    this.#pin = pin;
    this.#record = memory.layout.recordsAt + slot * RECORD.words;
  }

  /** The value itself, not a copy; begins at a multiple of 64 bytes. Throws `ERR_INFERKV_LEASE_RELEASED` after release. */
  get bytes(): Uint8Array<SharedArrayBuffer> {
    const record = this.#held();
    this.#bytes ??= view(this.#memory, record, 0, this.#word(RECORD.lengthBytes) >>> 0);
    return this.#bytes;
  }

  /** What the writer said about the value; empty if nothing. */
  get metadata(): Uint8Array<SharedArrayBuffer> {
    const record = this.#held();
    return view(this.#memory, record, metadataAt(this.lengthBytes), this.#word(RECORD.place) >>> 16);
  }

  /** Bytes of the value. */
  get lengthBytes(): number {
    this.#held();
    return this.#word(RECORD.lengthBytes) >>> 0;
  }

  /** Milliseconds it took to load or compute the value, to seven digits. */
  get costMs(): number {
    return this.#memory.floats[this.#held() + RECORD.costMs] as number;
  }

  get epoch(): number {
    this.#held();
    return this.#word(RECORD.epoch) >>> 0;
  }

  /** Lets go; a second call does nothing. */
  release(): void {
    const pin = this.#pin;
    if (pin < 0) return;
    this.#pin = -1;
    this.#bytes = undefined;
    this.#pins.clear(pin);
    this.#pins.give(pin);
    this.#forgotten?.unregister(this);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #held(): number {
    if (this.#pin >= 0) return this.#record;
    throw new InferkvError(
      'ERR_INFERKV_LEASE_RELEASED',
      'The lease was released, so its bytes may be in use again; read them before releasing, or copy them.',
    );
  }

  #word(field: number): number {
    return this.#memory.words[this.#record + field] as number;
  }
}

/** A view of an entry's memory, for whoever has its record pinned. */
export function view(
  { words, segments }: Memory,
  record: number,
  fromByte: number,
  lengthBytes: number,
): Uint8Array<SharedArrayBuffer> {
  const segment = segments[(words[record + RECORD.place] as number) & 0xffff] as SharedArrayBuffer;
  const startByte = ((words[record + RECORD.offset] as number) >>> 0) * UNIT_BYTES;
  return new Uint8Array(segment, startByte + fromByte, lengthBytes);
}
