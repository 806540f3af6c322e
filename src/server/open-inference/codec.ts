import { Worker } from 'node:worker_threads';

import { InferkvError, messageOf, type ErrorCode } from '../../base/errors.ts';
import { isStrings, type Tensor, type Tensors } from '../../base/tensor.ts';
import { workerEntry } from '../../base/worker-entry.ts';
import type { RequestBody } from '../body.ts';
import { decodeInferRequest, type InferRequest } from './infer-request.ts';
import { encodeInferResponse, wantedOutputs, type Answering, type EncodedResponse } from './infer-response.ts';

/** What the thread is asked. */
export type CodecRequest =
  | {
      readonly id: number;
      readonly kind: 'decode';
      readonly bytes: Uint8Array;
      readonly jsonLength: number | undefined;
    }
  | { readonly id: number; readonly kind: 'encode'; readonly name: string; readonly tensor: Tensor };

/** What it answers. */
export type CodecReply =
  | { readonly id: number; readonly decoded: InferRequest }
  | { readonly id: number; readonly json: Uint8Array }
  | { readonly id: number; readonly code: ErrorCode; readonly message: string };

// About half a millisecond of the event loop each.
const INLINE_JSON_BYTES = 64 * 1024;
const INLINE_ELEMENTS = 2048;

interface Pending {
  readonly resolve: (reply: CodecReply) => void;
  readonly reject: (error: InferkvError) => void;
}

/**
 * Reads requests and writes answers: short JSON and binary data at once, long JSON in a thread of its own, as a picture
 * in JSON would hold everybody else up for tens of milliseconds. The thread starts with the first long JSON.
 */
export class Codec {
  #thread: Worker | undefined;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  /** As `decodeInferRequest`. The body's bytes may be gone afterwards. */
  decode(body: RequestBody): InferRequest | Promise<InferRequest> {
    const { bytes, jsonLength = bytes.byteLength } = body;
    if (jsonLength <= INLINE_JSON_BYTES) return decodeInferRequest(bytes, body.jsonLength);
    const id = ++this.#lastId;
    const own = body.surrender();
    return this.#ask({ id, kind: 'decode', bytes: own, jsonLength: body.jsonLength }, [own.buffer]).then((reply) => {
      if ('decoded' in reply) return reply.decoded;
      throw notAnswered();
    });
  }

  /** As `encodeInferResponse`. */
  encode(model: Answering, request: InferRequest, outputs: Tensors): EncodedResponse | Promise<EncodedResponse> {
    const long = wantedOutputs(request, outputs).filter(
      ({ name, binary }) => !binary && (outputs[name]?.data.length ?? 0) > INLINE_ELEMENTS,
    );
    if (long.length === 0) return encodeInferResponse(model, request, outputs);
    const made = Promise.all(
      long.map(async ({ name }) => [name, await this.#json(name, outputs[name] as Tensor)] as const),
    );
    return made.then((elements) => encodeInferResponse(model, request, outputs, new Map(elements)));
  }

  /** Ends the thread; nothing may be under way. */
  async close(): Promise<void> {
    await this.#thread?.terminate();
  }

  async #json(name: string, { type, shape, data }: Tensor): Promise<Uint8Array> {
    // Cloning copies what a view lies in as a whole, so it gets memory of its own.
    const own = isStrings(data) ? data : data.slice();
    const transfer = isStrings(own) ? [] : [own.buffer];
    const reply = await this.#ask(
      { id: ++this.#lastId, kind: 'encode', name, tensor: { type, shape, data: own } },
      transfer,
    );
    if ('json' in reply) return reply.json;
    throw notAnswered();
  }

  #ask(request: CodecRequest, transfer: readonly ArrayBuffer[]): Promise<CodecReply> {
    return new Promise((resolve, reject) => {
      this.#pending.set(request.id, { resolve, reject });
      this.#thread ??= this.#start();
      this.#thread.ref();
      this.#thread.postMessage(request, [...transfer]);
    });
  }

  #start(): Worker {
    const thread = new Worker(workerEntry(import.meta.url, './codec-worker'), { name: 'inferkv codec', execArgv: [] });
    thread.on('message', (reply: CodecReply) => {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if (this.#pending.size === 0) thread.unref();
      if ('code' in reply) pending?.reject(new InferkvError(reply.code, reply.message));
      else pending?.resolve(reply);
    });
    thread.on('error', (error) => this.#lose(thread, messageOf(error)));
    thread.on('exit', (code) => this.#lose(thread, `ended with code ${code}`));
    return thread;
  }

  /** Whatever ended the thread ends what it had to do; the next request starts another. */
  #lose(thread: Worker, why: string): void {
    if (this.#thread !== thread) return;
    this.#thread = undefined;
    const lost = new InferkvError('ERR_INFERKV_WORKER_LOST', `The thread that reads and writes JSON is gone: ${why}.`);
    for (const { reject } of this.#pending.values()) reject(lost);
    this.#pending.clear();
  }
}

function notAnswered(): InferkvError {
  return new InferkvError('ERR_INFERKV_WORKER_LOST', 'The thread that reads and writes JSON answered something else.');
}
