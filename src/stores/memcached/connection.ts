import { connect, type Socket } from 'node:net';

import type { Clock } from '../../base/clock.ts';
import { InferkvError, messageOf } from '../../base/errors.ts';
import { encodeRequest, OPCODE, ResponseReader, STATUS, type Request, type Response } from './protocol.ts';

/** Who one is to a server that asks. */
export interface SaslUser {
  readonly username: string;
  readonly password: string;
}

/** How one server is talked to. */
export interface ConnectionOptions {
  readonly host: string;
  readonly port: number;
  readonly sasl?: SaslUser | undefined;
  /** A server that is asked and silent for so long is given up, and what it was asked is rejected. */
  readonly silenceMs: number;
  /** Requests that may wait for their answers. */
  readonly maxPending: number;
  /** Bytes that may wait to be sent. */
  readonly maxUnsentBytes: number;
  readonly maxBodyBytes: number;
  readonly clock: Clock;
}

// A connection that is never at rest must not remember every question it ever answered.
const COMPACT_AFTER = 1024;

interface Pending {
  readonly opaque: number;
  readonly opcode: number;
  readonly resolve: (response: Response) => void;
  readonly reject: (error: InferkvError) => void;
}

/** A socket while it lives: whatever is wrong with it, it is thrown away with all that it had left to answer. */
interface Link {
  readonly socket: Socket;
  readonly pending: Pending[];
  /** Answers taken from the front of `pending`. */
  answered: number;
  isReady: boolean;
  /** Frames that wait for the connection to be made. */
  readonly waiting: Buffer[];
  waitingBytes: number;
  heardAt: number;
  timer: { cancel(): void } | undefined;
}

/**
 * A connection to one server. It connects when it is first needed and whenever it is needed again; requests go out at once,
 * answers come in their order. An answer that is not the next one due, or that is no answer, ends the connection: what was
 * half read of it never meets what comes over the next.
 */
export class Connection {
  readonly address: string;
  readonly #options: ConnectionOptions;
  #link: Link | undefined;
  #opaque = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.address = `${options.host}:${options.port}`;
  }

  /** Sends requests in one go. Rejected with `ERR_INFERKV_STORE_FAILED` if the server cannot answer. */
  send(requests: readonly Request[]): readonly Promise<Response>[] {
    const link = this.#link ?? this.#open();
    const outstanding = link.pending.length - link.answered;
    const unsent = link.waitingBytes + link.socket.writableLength;
    if (outstanding + requests.length > this.#options.maxPending || unsent > this.#options.maxUnsentBytes) {
      const error = this.#failed('has too much to answer already', 'ask less at once, or add servers');
      return requests.map(() => Promise.reject(error));
    }
    if (outstanding === 0) this.#watch(link);
    link.socket.cork();
    const answers = requests.map((request) => this.#write(link, request));
    link.socket.uncork();
    return answers;
  }

  close(): void {
    if (this.#link !== undefined) this.#drop(this.#link, this.#failed('was let go', 'open another store'));
  }

  #write(link: Link, request: Request): Promise<Response> {
    this.#opaque = (this.#opaque + 1) >>> 0;
    const opaque = this.#opaque;
    const frame = encodeRequest(request, opaque);
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    link.pending.push({ opaque, opcode: request.opcode, resolve, reject });
    if (link.isReady) link.socket.write(frame);
    else {
      link.waiting.push(frame);
      link.waitingBytes += frame.length;
    }
    return promise;
  }

  #open(): Link {
    const { host, port, sasl, maxBodyBytes, clock } = this.#options;
    const socket = connect({ host, port, noDelay: true });
    const link: Link = {
      socket,
      pending: [],
      answered: 0,
      isReady: false,
      waiting: [],
      waitingBytes: 0,
      heardAt: clock.now(),
      timer: undefined,
    };
    const reader = new ResponseReader(maxBodyBytes, (response) => this.#answer(link, response));
    socket.on('connect', () => {
      if (sasl === undefined) this.#ready(link);
      else socket.write(encodeRequest(authentication(sasl), 0));
    });
    socket.on('data', (chunk) => {
      link.heardAt = clock.now();
      try {
        reader.push(chunk);
      } catch (error) {
        this.#drop(
          link,
          this.#failed(`answered what cannot be: ${messageOf(error)}`, 'check that it is memcached', error),
        );
      }
    });
    socket.on('error', (error) =>
      this.#drop(
        link,
        this.#failed(`cannot be reached: ${messageOf(error)}`, 'check that it runs and can be reached', error),
      ),
    );
    socket.on('close', () => this.#drop(link, this.#failed('closed the connection', 'check that it runs')));
    socket.unref();
    this.#link = link;
    return link;
  }

  #ready(link: Link): void {
    link.isReady = true;
    link.socket.cork();
    for (const frame of link.waiting) link.socket.write(frame);
    link.socket.uncork();
    link.waiting.length = 0;
    link.waitingBytes = 0;
  }

  #answer(link: Link, response: Response): void {
    // What comes after a connection was dropped, in the same piece of bytes.
    if (this.#link !== link) return;
    if (!link.isReady) return this.#authenticated(link, response);
    const next = link.pending[link.answered];
    if (next === undefined || next.opaque !== response.opaque || next.opcode !== response.opcode) {
      throw new Error('an answer to another question');
    }
    if (response.status === STATUS.unauthorized) {
      return this.#drop(link, this.#failed('wants to know who asks', 'give it a user and a password (sasl)'));
    }
    link.answered++;
    if (link.answered === link.pending.length) this.#rest(link);
    else if (link.answered >= COMPACT_AFTER) {
      link.pending.splice(0, link.answered);
      link.answered = 0;
    }
    next.resolve(response);
  }

  #authenticated(link: Link, { opcode, status }: Response): void {
    if (opcode !== OPCODE.saslAuth) throw new Error('an answer before any question');
    if (status === STATUS.ok) this.#ready(link);
    else this.#drop(link, this.#failed('does not let this user in', 'check user and password (sasl)'));
  }

  /** While anything is asked the socket keeps the process alive, and silence is noticed. */
  #watch(link: Link): void {
    const { clock, silenceMs } = this.#options;
    link.heardAt = clock.now();
    link.socket.ref();
    const look = (): void => {
      const silentFor = clock.now() - link.heardAt;
      if (silentFor >= silenceMs) {
        this.#drop(
          link,
          this.#failed(`has said nothing for ${silenceMs} ms`, 'check that it runs and is not overloaded'),
        );
      } else link.timer = clock.after(silenceMs - silentFor, look);
    };
    link.timer = clock.after(silenceMs, look);
  }

  #rest(link: Link): void {
    link.pending.length = 0;
    link.answered = 0;
    link.timer?.cancel();
    link.socket.unref();
  }

  #drop(link: Link, error: InferkvError): void {
    if (this.#link === link) this.#link = undefined;
    link.socket.destroy();
    const left = link.pending.slice(link.answered);
    this.#rest(link);
    link.waiting.length = 0;
    for (const { reject } of left) reject(error);
  }

  #failed(what: string, advice: string, cause?: unknown): InferkvError {
    return new InferkvError('ERR_INFERKV_STORE_FAILED', `The memcached server ${this.address} ${what}; ${advice}.`, {
      cause,
      key: this.address,
    });
  }
}

/** SASL PLAIN, the one way that all servers know. */
function authentication({ username, password }: SaslUser): Request {
  return { opcode: OPCODE.saslAuth, key: 'PLAIN', value: [Buffer.from(`\0${username}\0${password}`)] };
}
