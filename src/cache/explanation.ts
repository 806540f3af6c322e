import type { Key, TierName } from './partition.ts';

/** Why an entry left. `quota`: its tenant needed the room; `invalidated`: by a tag; `replaced`: by a newer value of its key. */
export type DepartureReason = 'evicted' | 'quota' | 'expired' | 'deleted' | 'invalidated' | 'replaced' | 'closed';

/**
 * Why a value was served and not kept. `too-large`: for the partition or its `maxEntryBytes`; `budget`: what lies here is
 * leased; `admission`: what would have gone for it is worth more; `quota`: of its tenant; `superseded`: a callback put
 * another value under its key meanwhile.
 */
export type RefusalReason = 'too-large' | 'budget' | 'admission' | 'quota' | 'closed' | 'superseded';

/** In the order of their codes: departures, then refusals. */
export const DEPARTURE_REASONS: readonly DepartureReason[] = [
  'evicted',
  'quota',
  'expired',
  'deleted',
  'invalidated',
  'replaced',
  'closed',
];

export const REFUSAL_REASONS: readonly RefusalReason[] = [
  'too-large',
  'budget',
  'admission',
  'quota',
  'closed',
  'superseded',
];

/** What is known of an entry that lies here. */
export interface PresentEntry {
  readonly state: 'present';
  readonly key: Key;
  readonly tier: TierName;
  /** Bytes of the value. */
  readonly sizeBytes: number;
  /** Bytes charged to the budget: the value, its key, its tags and its record. */
  readonly chargedBytes: number;
  /** Milliseconds it took to load or compute. */
  readonly costMs: number;
  /** Reads since it came. */
  readonly uses: number;
  /** Milliseconds that these reads made unnecessary. */
  readonly savedMs: number;
  readonly ageMs: number;
  /** Milliseconds until it expires; `undefined` for never. */
  readonly expiresInMs: number | undefined;
  readonly tags: readonly string[];
  readonly tenant: string | undefined;
  readonly isLeased: boolean;
}

/** What is known of an entry that lay here. */
export interface DepartedEntry {
  readonly state: 'departed';
  readonly key: Key;
  readonly reason: DepartureReason;
  /** The policy that chose it, where it was evicted or left for its tenant's quota. */
  readonly policy: string | undefined;
  /** Bytes that room was made for by evicting it; 0 where it left for another reason. */
  readonly neededBytes: number;
  /** The tag by which it was invalidated. */
  readonly tag: string | undefined;
  /** Milliseconds since it left. */
  readonly agoMs: number;
  /** Milliseconds it lay here. */
  readonly livedMs: number;
  readonly chargedBytes: number;
  readonly costMs: number;
  readonly uses: number;
  readonly savedMs: number;
}

/** What is known of a value that was served and not kept. */
export interface RefusedEntry {
  readonly state: 'refused';
  readonly key: Key;
  readonly reason: RefusalReason;
  readonly agoMs: number;
  /** Bytes it would have been charged with. */
  readonly chargedBytes: number;
  /** The most that one entry might take at that moment: of the partition, `maxEntryBytes`, or the tenant's quota. */
  readonly limitBytes: number;
  readonly costMs: number;
}

/** What a partition knows of a key. */
export type Explanation =
  | PresentEntry
  | DepartedEntry
  | RefusedEntry
  /** A load of it is under way. */
  | { readonly state: 'loading'; readonly key: Key }
  /** It was never here, or so long ago that later departures have taken its place in the list. */
  | { readonly state: 'unknown'; readonly key: Key; readonly remembered: number };
