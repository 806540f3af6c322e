import type { OwnerSlab } from '../stores/shared-memory/owner-slab.ts';
import type { SharedMemoryStore } from '../stores/shared-memory/store.ts';
import type { Draft, MakeDraft } from './partition.ts';
import { MAX_ENVELOPE_BYTES } from './envelope.ts';
import type { EncodedValue, ValueCodec } from './value-codec.ts';

// For tags and tenant, which are known only with the value.
const ENVELOPE_BYTES = 512;

/** Memory of the arena that a load fills in place. It is part of the budget from the moment it is made. */
export class SharedDraft<V> implements Draft<V> {
  readonly value: V;
  readonly slab: OwnerSlab;
  readonly metadata: Uint8Array;
  readonly #codec: ValueCodec<V>;

  private constructor(slab: OwnerSlab, metadata: Uint8Array, codec: ValueCodec<V>) {
    this.slab = slab;
    this.metadata = metadata;
    this.#codec = codec;
    this.value = codec.decode(slab.bytes, metadata);
  }

  /** A draft, evicting for it; `undefined` if what may go is not enough, or its form is too long to lie with an entry. */
  static make<V>(
    store: SharedMemoryStore,
    codec: ValueCodec<V>,
    { lengthBytes, metadata }: Pick<EncodedValue, 'lengthBytes' | 'metadata'>,
  ): SharedDraft<V> | undefined {
    if (metadata.length + ENVELOPE_BYTES > MAX_ENVELOPE_BYTES) return undefined;
    const slab = store.reserve(lengthBytes, metadata.length + ENVELOPE_BYTES);
    return slab === undefined ? undefined : new SharedDraft(slab, metadata, codec);
  }

  /** The value outside of the arena, where it could not stay. */
  copy(): { readonly value: V; readonly bytes: Uint8Array } {
    const bytes = new Uint8Array(this.slab.bytes.length);
    bytes.set(this.slab.bytes);
    return { value: this.#codec.decode(bytes, this.metadata), bytes };
  }
}

/** The drafts of one load. What it does not give back goes when it ends, and from then on it gets no more. */
export class LoadDrafts<V> {
  readonly #make: MakeDraft<V>;
  readonly #drafts: SharedDraft<V>[] = [];
  #isOver = false;

  constructor(make: (...form: Parameters<MakeDraft<V>>) => SharedDraft<V> | undefined) {
    this.#make = (form) => {
      const draft = this.#isOver ? undefined : make(form);
      if (draft !== undefined) this.#drafts.push(draft);
      return draft;
    };
  }

  get make(): MakeDraft<V> {
    return this.#make;
  }

  /** The load is over; gives the draft that it filled, which is the caller's now. */
  end(filled?: Draft<V>): SharedDraft<V> | undefined {
    this.#isOver = true;
    const kept = this.#drafts.find((each) => each === filled);
    for (const each of this.#drafts) if (each !== kept) each.slab.abandon();
    return kept;
  }
}
