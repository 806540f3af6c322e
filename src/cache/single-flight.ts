import { AsyncLocalStorage } from 'node:async_hooks';

import { abortError, whenAborted } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

interface Flight<T> {
  readonly waiters: Set<Waiter<T>>;
  readonly controller: AbortController;
  /** The load that this one was started by, if that is still under way. */
  readonly outer: Flight<unknown> | undefined;
  isOver: boolean;
}

/** The load that the present code runs in. */
const underWay = new AsyncLocalStorage<Flight<unknown> | undefined>();

/** What a flight delivers: `share` is called once a waiter, in the moment the flight lands. */
export interface Landing<T> {
  share(): T;
  /** Called after every waiter has its share. */
  done(): void;
}

/**
 * A load; it ends with what takes it in. That is called in the turn in which the waiters get their shares, as whatever
 * was taken in a turn before could be evicted before anybody has a hold on it.
 */
export type Load<T> = (signal: AbortSignal) => Promise<() => Landing<T>>;

/**
 * Runs one load for all callers that ask for the same key at the same time.
 *
 * A caller that gives up leaves alone; only when the last one has left is the load told to stop, and a later caller
 * starts a load of its own. Every waiter gets its share in the same turn of the loop in which the load ends, so nothing
 * can be evicted between. A load that would wait for itself, straight or by way of others it started, is told so.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** Whether a load of `key` is under way. */
  isUnderWay(key: string): boolean {
    return this.#flights.has(key);
  }

  /** Joins the load of `key` that is under way, or `undefined` if there is none. */
  join(key: string, signal: AbortSignal | undefined): Promise<T> | undefined {
    const flight = this.#flights.get(key);
    if (flight === undefined) return undefined;
    if (isInside(flight as Flight<unknown>)) return Promise.reject(waitsForItself(key));
    return this.#wait(key, flight, signal);
  }

  /** Starts a load of `key`; later callers join this one. */
  start(key: string, load: Load<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(abortError(signal));
    const flight: Flight<T> = {
      waiters: new Set(),
      controller: new AbortController(),
      outer: presentFlight(),
      isOver: false,
    };
    this.#flights.set(key, flight);
    const waiting = this.#wait(key, flight, signal);
    void underWay.run(flight as Flight<unknown>, () => this.#run(key, flight, load));
    return waiting;
  }

  #wait(key: string, flight: Flight<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(abortError(signal));
    return new Promise<T>((resolve, reject) => {
      const stop = whenAborted(signal, (error) => {
        flight.waiters.delete(waiter);
        reject(error);
        if (flight.waiters.size > 0) return;
        this.#forget(key, flight);
        flight.controller.abort(error);
      });
      const waiter: Waiter<T> = {
        resolve: (value) => {
          stop();
          resolve(value);
        },
        reject: (error) => {
          stop();
          reject(error);
        },
      };
      flight.waiters.add(waiter);
    });
  }

  async #run(key: string, flight: Flight<T>, load: Load<T>): Promise<void> {
    try {
      const land = await load(flight.controller.signal);
      const landing = land();
      this.#forget(key, flight);
      for (const waiter of flight.waiters) waiter.resolve(landing.share());
      landing.done();
    } catch (error) {
      this.#forget(key, flight);
      for (const waiter of flight.waiters) waiter.reject(error);
    } finally {
      flight.isOver = true;
    }
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}

/** Starts what a load does not wait for, and which may therefore wait for the load. */
export function besideLoad(start: () => void): void {
  underWay.run(undefined, start);
}

/** The innermost load under way that the present code runs in; code may outlive the load that started it. */
function presentFlight(): Flight<unknown> | undefined {
  let flight = underWay.getStore();
  while (flight?.isOver === true) flight = flight.outer;
  return flight;
}

function isInside(flight: Flight<unknown>): boolean {
  for (let outer = presentFlight(); outer !== undefined; outer = outer.outer) if (outer === flight) return true;
  return false;
}

function waitsForItself(key: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_REENTRANT',
    'A load asked for what it is loading, and would have waited for itself for ever; load something else, or compute it there.',
    { key },
  );
}
