import type { Key } from './partition.ts';

/**
 * Who follows single entries for the sake of the tiers below. Called in the middle of what the partition does: it may note
 * something down, and must not call the partition back.
 */
export interface EntryWatcher {
  /** Reads after which `reached` is called; 0 for never. */
  readonly uses: number;
  /** The entry of a key was read that often, for the first time since it came. */
  reached(key: Key): void;
  /** The entry of a key left, whatever the reason. */
  left(key: Key): void;
}
