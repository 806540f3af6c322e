import type { IncomingMessage, ServerResponse } from 'node:http';

import { InferkvError } from '../base/errors.ts';

/**
 * One request and its answer, up to the moment when the answer was sent or can no longer be. What is held for them is
 * let go then, whichever way they ended.
 */
export class Exchange {
  readonly #controller = new AbortController();
  readonly #endings: (() => void)[] = [];
  #over = false;

  constructor(request: IncomingMessage, response: ServerResponse) {
    const { socket } = request;
    const end = (): void => {
      if (this.#over) return;
      this.#over = true;
      response.off('close', end);
      socket.off('close', end);
      if (!response.writableFinished) {
        this.#controller.abort(new InferkvError('ERR_INFERKV_ABORTED', 'The client left before it had its answer.'));
      }
      for (const ending of this.#endings) ending();
    };
    response.on('close', end);
    // A response that waits behind another one of its connection is not told when that closes.
    socket.on('close', end);
  }

  /** Aborts when the client leaves before it has its answer. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Calls back when all is over; at once if it is already. */
  whenOver(ending: () => void): void {
    if (this.#over) ending();
    else this.#endings.push(ending);
  }
}
