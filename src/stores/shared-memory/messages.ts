import type { Memory } from './handle.ts';
import { AREA, HEADER, KEY_WORDS, KIND, MESSAGE, MESSAGES_PER_THREAD } from './layout.ts';

/** An entry that a thread has written and the owner is to put into the index. */
export interface CommitMessage {
  readonly region: number;
  readonly offset: number;
  readonly units: number;
  readonly lengthBytes: number;
  readonly metadataBytes: number;
  readonly costMs: number;
  readonly epoch: number;
  readonly expiresAt: number;
  readonly key: Int32Array;
}

/** Part of a region that goes back: what was reserved and is not needed, or all that was never reserved (`seal`). */
export interface ReturnMessage {
  readonly region: number;
  readonly offset: number;
  readonly units: number;
}

/** Where the owner's side hands messages to. */
export interface MessageReceiver {
  commit(message: CommitMessage): void;
  giveBack(message: ReturnMessage): void;
  want(units: number): void;
  /** Something that no thread of ours would write. */
  unreadable(): void;
}

/**
 * The thread's end of its ring of messages. A message counts once `messagesSent` says so, which is written last: what a
 * thread leaves half-written when it dies was never there.
 */
export class MessageSender {
  readonly #memory: Memory;
  readonly #area: number;
  #sent: number;

  constructor(memory: Memory, area: number) {
    this.#memory = memory;
    this.#area = area;
    this.#sent = Atomics.load(memory.words, area + AREA.messagesSent);
  }

  /** Messages there is room for now. */
  get room(): number {
    const waiting = (this.#sent - Atomics.load(this.#memory.words, this.#area + AREA.messagesRead)) | 0;
    return MESSAGES_PER_THREAD - waiting;
  }

  /** Writes a commit; `publish` makes it count. The caller knows that there is room, as for every message. */
  writeCommit(message: CommitMessage): void {
    const { words, doubles, floats } = this.#memory;
    const at = this.#write(KIND.commit, message.region, message.offset, message.units);
    words[at + MESSAGE.lengthBytes] = message.lengthBytes;
    words[at + MESSAGE.metadataBytes] = message.metadataBytes;
    floats[at + MESSAGE.costMs] = message.costMs;
    words[at + MESSAGE.epoch] = message.epoch;
    doubles[(at + MESSAGE.expiresAt) >> 1] = message.expiresAt;
    words.set(message.key, at + MESSAGE.key);
  }

  send(
    kind: typeof KIND.abandon | typeof KIND.seal | typeof KIND.want,
    { region, offset, units }: ReturnMessage,
  ): void {
    this.#write(kind, region, offset, units);
    this.publish();
  }

  /** Makes the written message count, and rings. */
  publish(): void {
    this.#sent = (this.#sent + 1) | 0;
    Atomics.store(this.#memory.words, this.#area + AREA.messagesSent, this.#sent);
    ring(this.#memory);
  }

  #write(kind: number, region: number, offset: number, units: number): number {
    const { words } = this.#memory;
    const at = this.#area + AREA.messages + (this.#sent & (MESSAGES_PER_THREAD - 1)) * MESSAGE.words;
    words[at + MESSAGE.kind] = kind;
    words[at + MESSAGE.region] = region;
    words[at + MESSAGE.offset] = offset;
    words[at + MESSAGE.units] = units;
    return at;
  }
}

/** Wakes an owner that listens. */
export function ring({ words }: Memory): void {
  Atomics.add(words, HEADER.doorbell, 1);
  Atomics.notify(words, HEADER.doorbell);
}

/** Hands all messages of a thread to the receiver; for the owner. */
export function receiveMessages(memory: Memory, area: number, receiver: MessageReceiver): void {
  const { words } = memory;
  const sent = Atomics.load(words, area + AREA.messagesSent);
  let read = words[area + AREA.messagesRead] as number;
  // No more than the ring holds, whatever the thread says it has sent.
  for (let left = MESSAGES_PER_THREAD; read !== sent && left > 0; left--) {
    const at = area + AREA.messages + (read & (MESSAGES_PER_THREAD - 1)) * MESSAGE.words;
    receive(memory, at, receiver);
    read = (read + 1) | 0;
    Atomics.store(words, area + AREA.messagesRead, read);
  }
}

function receive({ words, doubles, floats }: Memory, at: number, receiver: MessageReceiver): void {
  const region = words[at + MESSAGE.region] as number;
  const offset = (words[at + MESSAGE.offset] as number) >>> 0;
  const units = (words[at + MESSAGE.units] as number) >>> 0;
  switch (words[at + MESSAGE.kind]) {
    case KIND.commit:
      receiver.commit({
        region,
        offset,
        units,
        lengthBytes: (words[at + MESSAGE.lengthBytes] as number) >>> 0,
        metadataBytes: (words[at + MESSAGE.metadataBytes] as number) >>> 0,
        costMs: floats[at + MESSAGE.costMs] as number,
        epoch: words[at + MESSAGE.epoch] as number,
        expiresAt: doubles[(at + MESSAGE.expiresAt) >> 1] as number,
        key: words.slice(at + MESSAGE.key, at + MESSAGE.key + KEY_WORDS),
      });
      break;
    case KIND.abandon:
    case KIND.seal:
      receiver.giveBack({ region, offset, units });
      break;
    case KIND.want:
      receiver.want(units);
      break;
    default:
      receiver.unreadable();
  }
}
