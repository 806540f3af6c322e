/**
 * Finds the files that an ONNX model keeps its weights in besides its own, without reading the weights: the file is
 * walked field by field through a small window.
 *
 * Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, https://protobuf.dev/programming-guides/encoding/
 */
import { open, type FileHandle } from 'node:fs/promises';

import { InferkvError, messageOf } from '../../base/errors.ts';

type MessageKind = 'model' | 'function' | 'graph' | 'node' | 'attribute' | 'sparse' | 'tensor' | 'location';

// Field numbers of the messages on the way from a model to its tensors; every other field is passed over.
const NESTED: Readonly<Record<MessageKind, Readonly<Record<number, MessageKind>>>> = {
  model: { 7: 'graph', 25: 'function' },
  function: { 7: 'node', 11: 'attribute' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: { 13: 'location' },
  location: {},
};

const FIXED_BYTES: Readonly<Record<number, number>> = { 1: 8, 5: 4 };
const WIRE_VARINT = 0;
const WIRE_BYTES = 2;
const LOCATION_KEY = 1;
const LOCATION_VALUE = 2;
const MAX_TEXT_BYTES = 4096;
const MAX_VARINT_BYTES = 10;
const MAX_DEPTH = 64;
const WINDOW_BYTES = 64 * 1024;

class WireError extends Error {}

/** A file read through a window that moves along with the reader. */
class FileWindow {
  readonly #file: FileHandle;
  readonly #bytes = new Uint8Array(WINDOW_BYTES);
  #from = 0;
  #to = 0;
  at = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async varint(end: number): Promise<number> {
    let value = 0n;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      if (this.at >= end) throw new WireError('a number is cut short');
      if (this.at < this.#from || this.at >= this.#to) await this.#fill();
      const byte = this.#bytes[this.at++ - this.#from] ?? 0;
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return Number(value);
    }
    throw new WireError('a number is longer than ten bytes');
  }

  async text(length: number): Promise<string> {
    if (length > MAX_TEXT_BYTES) throw new WireError('the name of a file is too long');
    const bytes = new Uint8Array(length);
    const { bytesRead } = await this.#file.read(bytes, 0, length, this.at);
    if (bytesRead < length) throw new WireError('a text is cut short');
    this.at += length;
    return new TextDecoder().decode(bytes);
  }

  async #fill(): Promise<void> {
    const { bytesRead } = await this.#file.read(this.#bytes, 0, WINDOW_BYTES, this.at);
    if (bytesRead === 0) throw new WireError('the file ends early');
    this.#from = this.at;
    this.#to = this.at + bytesRead;
  }
}

class CompanionFinder {
  readonly names = new Set<string>();
  hasGraph = false;
  readonly #window: FileWindow;

  constructor(window: FileWindow) {
    this.#window = window;
  }

  async walk(kind: MessageKind, end: number, depth: number): Promise<void> {
    if (depth > MAX_DEPTH) throw new WireError(`messages lie more than ${MAX_DEPTH} deep in each other`);
    const window = this.#window;
    const location: Record<number, string> = {};
    while (window.at < end) {
      const tag = await window.varint(end);
      const wireType = tag % 8;
      const field = Math.floor(tag / 8);
      if (field === 0) throw new WireError('a field has the number 0');
      if (wireType === WIRE_VARINT) {
        await window.varint(end);
        continue;
      }
      const length = wireType === WIRE_BYTES ? await window.varint(end) : FIXED_BYTES[wireType];
      if (length === undefined) throw new WireError(`wire type ${wireType} is unknown`);
      if (length > end - window.at) throw new WireError('a field is cut short');
      const next = window.at + length;
      const nested = NESTED[kind][field];
      if (nested !== undefined && wireType === WIRE_BYTES) {
        this.hasGraph ||= kind === 'model' && nested === 'graph';
        await this.walk(nested, next, depth + 1);
      } else if (kind === 'location' && (field === LOCATION_KEY || field === LOCATION_VALUE)) {
        location[field] = await window.text(length);
      }
      window.at = next;
    }
    const name = location[LOCATION_VALUE];
    if (location[LOCATION_KEY] === 'location' && name !== undefined) this.names.add(name);
  }
}

/**
 * Names of the files that hold weights of an ONNX model (ONNX external data), as the model spells them.
 *
 * @throws InferkvError `ERR_INFERKV_ARTIFACT_INVALID` if the file is empty or no ONNX model, `ERR_INFERKV_ARTIFACT_MISSING`
 */
export async function onnxCompanions(path: string): Promise<readonly string[]> {
  const file = await open(path).catch((error: unknown) => {
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_MISSING',
      `The model file ${path} cannot be read: ${messageOf(error)}`,
      {
        cause: error,
        key: path,
      },
    );
  });
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw invalid(path, 'is no regular file');
    if (stats.size === 0) throw invalid(path, 'is empty');
    const finder = new CompanionFinder(new FileWindow(file));
    await finder.walk('model', stats.size, 0);
    if (!finder.hasGraph) throw new WireError('it holds no graph');
    return [...finder.names];
  } catch (error) {
    if (error instanceof WireError) throw invalid(path, `is no whole ONNX model: ${error.message}`, error);
    throw error;
  } finally {
    await file.close();
  }
}

function invalid(path: string, what: string, cause?: unknown): InferkvError {
  return new InferkvError('ERR_INFERKV_ARTIFACT_INVALID', `The model file ${path} ${what}.`, { cause, key: path });
}
