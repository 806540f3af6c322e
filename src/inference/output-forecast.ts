import { isStrings, tensorBytes, type Tensor, type Tensors } from '../base/tensor.ts';
import type { TensorForm } from '../cache/tensor-codec.ts';

// Below this a copy costs less than what it takes to avoid it.
const WORTHWHILE_BYTES = 64 * 1024;
const MAX_REMEMBERED = 64;

type Forms = Readonly<Record<string, TensorForm>>;

/**
 * What a model's outputs will be, as they were for inputs of the same shapes the last time. A wrong forecast costs a copy, never a
 * wrong value: engines write in place only what fits.
 */
export class OutputForecast {
  readonly #forms = new Map<string, Forms>();

  /** The forms of the outputs of such inputs; `undefined` if they are not known, or not worth it. */
  foresee(inputs: Tensors, outputs: readonly string[] | undefined): Forms | undefined {
    return this.#forms.get(signatureOf(inputs, outputs));
  }

  /** Notes what came out; the oldest of 64 is forgotten first. */
  learn(inputs: Tensors, outputs: readonly string[] | undefined, results: Tensors): void {
    const signature = signatureOf(inputs, outputs);
    this.#forms.delete(signature);
    const bytes = Object.values(results).reduce((sum, each) => sum + tensorBytes(each), 0);
    if (bytes < WORTHWHILE_BYTES) return;
    const forms: Record<string, TensorForm> = {};
    for (const [name, { type, shape }] of Object.entries(results)) {
      if (type === 'string') return;
      forms[name] = { type, shape: [...shape] };
    }
    this.#forms.set(signature, forms);
    const [oldest] = this.#forms.keys();
    if (this.#forms.size > MAX_REMEMBERED && oldest !== undefined) this.#forms.delete(oldest);
  }
}

const forecasts = new WeakMap<object, OutputForecast>();

/** The forecast of one content of a model. */
export function forecastOf(content: object): OutputForecast {
  const known = forecasts.get(content);
  if (known !== undefined) return known;
  const made = new OutputForecast();
  forecasts.set(content, made);
  return made;
}

/** Whether results are just the tensors that were handed in to be filled. */
export function areFilled(results: Tensors, targets: Tensors): boolean {
  const names = Object.keys(targets);
  return (
    names.length === Object.keys(results).length &&
    names.every((name) => isFilled(results[name], targets[name] as Tensor))
  );
}

function isFilled(result: Tensor | undefined, target: Tensor): boolean {
  if (result === undefined || isStrings(result.data) || isStrings(target.data)) return false;
  const { buffer, byteOffset, byteLength } = target.data;
  return (
    result.type === target.type &&
    result.data.buffer === buffer &&
    result.data.byteOffset === byteOffset &&
    result.data.byteLength === byteLength &&
    result.shape.length === target.shape.length &&
    result.shape.every((size, at) => size === target.shape[at])
  );
}

function signatureOf(inputs: Tensors, outputs: readonly string[] | undefined): string {
  const shapes = Object.entries(inputs).map(([name, { shape }]) => [name, shape] as const);
  return JSON.stringify([shapes, outputs]);
}
