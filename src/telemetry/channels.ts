/**
 * What goes on inside, told on channels of `node:diagnostics_channel`. A channel that nobody listens to costs one read;
 * no message carries a value or an input.
 */
import { channel, type Channel } from 'node:diagnostics_channel';

/** A model was loaded. */
export interface ModelLoadedEvent {
  readonly model: string;
  readonly version: string;
  readonly digest: string;
  readonly loadMs: number;
  readonly sizeBytes: number;
}

/** A model left memory. */
export interface ModelReleasedEvent {
  readonly model: string;
  readonly version: string;
  readonly digest: string;
}

/** A check of a model's file failed; what was loaded goes on serving. */
export interface ModelCheckFailedEvent {
  readonly model: string;
  readonly error: unknown;
}

/** A request was answered. */
export interface AnsweredEvent {
  readonly model: string;
  readonly status: 'hit' | 'miss' | 'joined' | 'bypass';
  readonly elapsedMs: number;
  readonly savedMs: number;
}

/** A lease was dropped without being released; what it pins stays pinned. */
export interface LeaseForgottenEvent {
  readonly model: string;
  readonly key: string;
}

/** The breaker of a store has opened, closed, or lets a call through to see. */
export interface StoreBreakerEvent {
  readonly store: string;
  readonly state: 'closed' | 'open' | 'half-open';
}

/** What a store kept was no good any more, as a whole: it is empty now. */
export interface StoreBegunAnewEvent {
  readonly store: string;
  readonly folder: string;
  readonly reason: string;
}

/** Messages by channel. */
export interface ChannelMessages {
  'inferkv:model.loaded': ModelLoadedEvent;
  'inferkv:model.released': ModelReleasedEvent;
  'inferkv:model.check-failed': ModelCheckFailedEvent;
  'inferkv:answered': AnsweredEvent;
  'inferkv:lease.forgotten': LeaseForgottenEvent;
  'inferkv:store.breaker': StoreBreakerEvent;
  'inferkv:store.begun-anew': StoreBegunAnewEvent;
}

/** Names of the channels. */
export type ChannelName = keyof ChannelMessages;

const channels = new Map<ChannelName, Channel>();

/** Tells whoever listens; `make` is called only then. */
export function tell<Name extends ChannelName>(name: Name, make: () => ChannelMessages[Name]): void {
  let found = channels.get(name);
  if (found === undefined) {
    found = channel(name);
    channels.set(name, found);
  }
  if (found.hasSubscribers) found.publish(make());
}
