import { InferkvError } from '../base/errors.ts';
import type { Departure, Policy } from '../policies/policy.ts';

const BATCH = 64;

/** Is told of slots that were used, the first `count` of the list, which it reads during the call only. */
export type OnTouched = (slots: Int32Array, count: number) => void;

/**
 * Where a policy sits in a partition. Uses are noted down and reach the policy in batches, in their order and before
 * anything else does: a hit then costs one write instead of a call that the engine cannot inline once several policies
 * live in one process.
 */
export class PolicySeat {
  /** The policy's name. */
  readonly name: string;
  readonly #policy: Policy;
  readonly #onTouched: OnTouched | undefined;
  readonly #touched = new Int32Array(BATCH);
  #count = 0;
  #busy = false;

  /** @param onTouched told of each batch after the policy */
  constructor(policy: Policy, onTouched?: OnTouched) {
    this.name = policy.name;
    this.#policy = policy;
    this.#onTouched = onTouched;
  }

  touch(slot: number): void {
    const count = this.#count;
    this.#touched[count] = slot;
    this.#count = count + 1;
    if (count === BATCH - 1) this.#deliver();
  }

  /** Hands on the uses that are noted down. */
  deliver(): void {
    if (this.#count > 0) this.#deliver();
  }

  insert(slot: number): void {
    this.#begin();
    try {
      this.#policy.insert(slot);
    } finally {
      this.#busy = false;
    }
  }

  update(slot: number): void {
    this.#begin();
    try {
      this.#policy.update(slot);
    } finally {
      this.#busy = false;
    }
  }

  leave(slot: number, why: Departure): void {
    this.#begin();
    try {
      this.#policy.leave(slot, why);
    } finally {
      this.#busy = false;
    }
  }

  victim(): number {
    this.#begin();
    try {
      return this.#policy.victim();
    } finally {
      this.#busy = false;
    }
  }

  /** @throws InferkvError `ERR_INFERKV_REENTRANT` from inside a call of the policy, before anything has changed */
  assertIdle(): void {
    if (!this.#busy) return;
    throw new InferkvError(
      'ERR_INFERKV_REENTRANT',
      `The policy ${this.name} called the partition that was asking it; a policy may only read its context.`,
      { key: this.name },
    );
  }

  #begin(): void {
    this.assertIdle();
    if (this.#count > 0) this.#deliver();
    this.#busy = true;
  }

  #deliver(): void {
    const count = this.#count;
    this.#count = 0;
    // Reads from inside a call of the policy are answered, and do not count as uses.
    if (this.#busy) return;
    this.#busy = true;
    const policy = this.#policy;
    const touched = this.#touched;
    try {
      if (policy.touchAll !== undefined) policy.touchAll(touched, count);
      else for (let at = 0; at < count; at++) policy.touch(touched[at] as number);
      this.#onTouched?.(touched, count);
    } finally {
      this.#busy = false;
    }
  }
}
