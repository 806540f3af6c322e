import { abortError } from '../../base/cancellation.ts';
import { together, type RedisClient } from './client.ts';

/** Bytes of answers that are asked for at a time. */
const WINDOW_BYTES = 512 * 1024;
/** Records that are asked for at a time however long they are. */
const LEAST = 8;
/** How much one answer counts in the length that the next is expected to have. */
const WEIGHT = 0.1;

/**
 * Reads many records: all at once if they are short, else as many as make half a megabyte, and more when half of those have come.
 *
 * A server that is asked for all of a long batch at once copies it into buffers first, and sends from these when the records have
 * left the processor's caches: 32 records of 64 KB take it half as long again (docs/design-decisions.md). So do its buffers hold
 * half a megabyte a reader, and not the batch.
 */
export class BatchReader {
  #expectedBytes = WINDOW_BYTES / LEAST;

  /** Answers in the order of their keys; rejected with the first error. */
  read(client: RedisClient, keys: readonly string[], signal: AbortSignal | undefined): Promise<readonly unknown[]> {
    return new Promise((resolve, reject) => {
      const answers: unknown[] = Array.from({ length: keys.length });
      let next = 0;
      let flying = 0;
      let done = 0;
      const fail = (error: unknown): void => {
        next = keys.length;
        reject(error);
      };
      const came = (at: number, answer: unknown): void => {
        flying--;
        done++;
        answers[at] = answer;
        this.#expect(answer);
        if (done === keys.length) resolve(answers);
        else ask();
      };
      const ask = (): void => {
        if (next === keys.length) return;
        if (signal?.aborted === true) {
          fail(abortError(signal));
          return;
        }
        const window = Math.max(LEAST, WINDOW_BYTES / this.#expectedBytes);
        if (flying > window / 2) return;
        together(client, () => {
          for (; next < keys.length && flying < window; next++, flying++) {
            const at = next;
            client.getBuffer(keys[at] as string).then((answer) => came(at, answer), fail);
          }
        });
      };
      ask();
    });
  }

  #expect(answer: unknown): void {
    const length = Buffer.isBuffer(answer) ? answer.length : 0;
    this.#expectedBytes = Math.max(1, this.#expectedBytes + WEIGHT * (length - this.#expectedBytes));
  }
}
