import { createHash } from 'node:crypto';

import { isRecordName } from '../store.ts';
import type { CallOptions, EpochAuthority, GrantAuthority } from '../store.ts';
import type { Draft } from './draft.ts';
import type { Shelf } from './shelf.ts';

/** Runs something on the open folder, within what the signal allows. */
export type OnShelf = <T>(options: CallOptions, work: (shelf: Shelf) => Promise<T>) => Promise<T>;

// Beyond that many scopes with a number of their own, all get one: what they cover is computed again.
const MAX_SCOPES = 100_000;
const BASE = 'epoch base';

/** Epochs in the index: good between the processes of one machine, and after its power was lost. */
export function diskEpochs(onShelf: OnShelf): EpochAuthority {
  return {
    read: (scopes, options = {}) =>
      onShelf(options, async (shelf) => {
        const base = shelf.env.tables.counters.get(BASE);
        if (base !== undefined) return scopes.map((scope) => shelf.env.tables.epochs.get(keyOf(scope)) ?? base);
        return shelf.change((draft) => {
          const made = baseOf(draft);
          return scopes.map((scope) => draft.tables.epochs.get(keyOf(scope)) ?? made);
        });
      }),
    bump: (scopes, options = {}) =>
      onShelf(options, async (shelf) => {
        const raised = await shelf.change((draft) => scopes.map((scope) => raise(draft, scope)));
        // An invalidation that was forgotten would bring back what it took away.
        await shelf.env.flushed();
        return raised;
      }),
  };
}

function raise(draft: Draft, scope: string): number {
  const { epochs, counters } = draft.tables;
  let base = baseOf(draft);
  const { entryCount } = epochs.getStats() as { entryCount: number };
  if (entryCount >= MAX_SCOPES && !epochs.doesExist(keyOf(scope))) {
    for (const { value } of epochs.getRange()) base = Math.max(base, value);
    base++;
    counters.putSync(BASE, base);
    epochs.clearSync();
  }
  const next = (epochs.get(keyOf(scope)) ?? base) + 1;
  epochs.putSync(keyOf(scope), next);
  return next;
}

/** Made by the clock, so that an index that is begun anew has numbers that were never given. */
function baseOf(draft: Draft): number {
  const found = draft.tables.counters.get(BASE);
  if (found !== undefined) return found;
  const base = Math.floor(draft.nowMs * 1000);
  draft.tables.counters.putSync(BASE, base);
  return base;
}

/** Rights in the index. That of a process that has died is free at once. */
export function diskGrants(onShelf: OnShelf): GrantAuthority {
  return {
    acquire: (name, ttlMs, options = {}) =>
      onShelf(options, (shelf) =>
        shelf.change((draft) => {
          const { grants, counters } = draft.tables;
          const held = grants.get(keyOf(name));
          if (held !== undefined && draft.isHeld(held)) return undefined;
          // By the clock, too: what was lost with the power is not granted twice.
          const token = Math.max((counters.get('token') ?? 0) + 1, Math.floor(draft.nowMs * 1000));
          counters.putSync('token', token);
          grants.putSync(keyOf(name), { owner: shelf.owner, token, untilMs: draft.nowMs + ttlMs, ttlMs });
          return token;
        }),
      ),
    renew: (name, token, ttlMs, options = {}) =>
      onShelf(options, (shelf) =>
        shelf.change((draft) => {
          const held = draft.tables.grants.get(keyOf(name));
          if (held === undefined || held.token !== token || !draft.isHeld(held)) return false;
          draft.tables.grants.putSync(keyOf(name), { ...held, untilMs: draft.nowMs + ttlMs, ttlMs });
          return true;
        }),
      ),
    release: (name, token, options = {}) =>
      onShelf(options, (shelf) =>
        shelf.change(({ tables }) => {
          if (tables.grants.get(keyOf(name))?.token === token) tables.grants.removeSync(keyOf(name));
        }),
      ),
  };
}

/** Takes out rights whose time is over: nobody gives back those of the dead. */
export function forgetGrants(draft: Draft): void {
  // Listed first, since the table is changed meanwhile.
  const held = Array.from(draft.tables.grants.getRange({ limit: 1000 }));
  for (const { key, value } of held) if (!draft.isHeld(value)) draft.tables.grants.removeSync(key);
}

/** A key of the index is a name as stores have it; scopes and names that are longer, or have other characters, are told by their digest. */
function keyOf(text: string): string {
  return isRecordName(text) ? text : `#${createHash('sha256').update(text).digest('hex')}`;
}
