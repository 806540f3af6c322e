/** What a live what-if and its thread say to each other. */
import type { UseColumns } from './use-batch.ts';
import type { Picks } from './use-filter.ts';
import type { WhatIfEstimate } from './what-if.ts';

export type ToWhatIf =
  | { readonly kind: 'uses'; readonly uses: UseColumns }
  | { readonly kind: 'estimates'; readonly number: number }
  | { readonly kind: 'reset' };

/** `picks` answers `uses`. */
export type FromWhatIf =
  | { readonly kind: 'picks'; readonly picks: Picks }
  | { readonly kind: 'estimates'; readonly number: number; readonly estimates: readonly WhatIfEstimate[] };
