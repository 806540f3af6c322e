import { InferkvError } from '../base/errors.ts';
import { tensorFault, type Tensors } from '../base/tensor.ts';
import type { SessionMetadata, TensorSpec } from './engine.ts';

function shapeText(shape: readonly (number | string)[]): string {
  return `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

function names(specs: readonly TensorSpec[]): string {
  return specs.map(({ name }) => `"${name}"`).join(', ');
}

/** What is wrong with an input against its declaration, as the end of a sentence. */
function specFault(candidate: Tensors[string], spec: TensorSpec, symbols: Map<string, number>): string | undefined {
  const fault = tensorFault(candidate);
  if (fault !== undefined) return fault;
  if (candidate.type !== spec.type) return `has the type ${candidate.type}; the model takes ${spec.type}`;
  const expected = `; the model takes ${shapeText(spec.shape)}`;
  if (candidate.shape.length !== spec.shape.length) return `has the shape ${shapeText(candidate.shape)}${expected}`;
  for (const [axis, declared] of spec.shape.entries()) {
    const size = candidate.shape[axis];
    if (size === undefined) continue;
    if (typeof declared === 'number') {
      if (size !== declared) return `has the shape ${shapeText(candidate.shape)}${expected}`;
      continue;
    }
    if (declared === '') continue;
    const seen = symbols.get(declared);
    if (seen !== undefined && seen !== size) {
      return `has ${size} as its dimension "${declared}" where another input has ${seen}`;
    }
    symbols.set(declared, size);
  }
  return undefined;
}

/**
 * Checks a run's inputs against what the model takes, before anything is queued or copied.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_MISSING`, `ERR_INFERKV_INPUT_UNKNOWN`, `ERR_INFERKV_INPUT_INVALID`
 */
export function checkInputs(inputs: Tensors, metadata: SessionMetadata): void {
  if (typeof inputs !== 'object' || inputs === null) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', 'The inputs must be an object of tensors by name.');
  }
  for (const name of Object.keys(inputs)) {
    if (metadata.inputs.some((spec) => spec.name === name)) continue;
    throw new InferkvError(
      'ERR_INFERKV_INPUT_UNKNOWN',
      `The model has no input "${name}"; it takes ${names(metadata.inputs)}.`,
      { key: name },
    );
  }
  const symbols = new Map<string, number>();
  for (const spec of metadata.inputs) {
    if (!Object.hasOwn(inputs, spec.name)) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_MISSING',
        `The input "${spec.name}" (${spec.type} ${shapeText(spec.shape)}) is missing.`,
        { key: spec.name },
      );
    }
    const candidate = inputs[spec.name];
    const fault = candidate === undefined ? 'is undefined' : specFault(candidate, spec, symbols);
    if (fault === undefined) continue;
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The input "${spec.name}" ${fault}.`, { key: spec.name });
  }
}

/**
 * The names of the outputs a run is to fetch: those asked for, or all.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_UNKNOWN`
 */
export function checkOutputs(wanted: readonly string[] | undefined, metadata: SessionMetadata): readonly string[] {
  const known = metadata.outputs.map(({ name }) => name);
  if (wanted === undefined) return known;
  for (const name of wanted) {
    if (known.includes(name)) continue;
    throw new InferkvError(
      'ERR_INFERKV_OUTPUT_UNKNOWN',
      `The model has no output "${name}"; it gives ${names(metadata.outputs)}.`,
      { key: name },
    );
  }
  if (wanted.length === 0) {
    throw new InferkvError(
      'ERR_INFERKV_OUTPUT_UNKNOWN',
      'No output is asked for; name at least one, or leave the list out.',
    );
  }
  return [...new Set(wanted)];
}

/**
 * Checks the tensors that outputs are to be written into; one that merely does not fit is no fault.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_UNKNOWN`, `ERR_INFERKV_INPUT_INVALID`
 */
export function checkTargets(into: Tensors | undefined, metadata: SessionMetadata): void {
  if (into === undefined) return;
  checkOutputs(Object.keys(into).length === 0 ? undefined : Object.keys(into), metadata);
  for (const [name, target] of Object.entries(into)) {
    const fault = tensorFault(target);
    if (fault === undefined) continue;
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The target for the output "${name}" ${fault}.`, { key: name });
  }
}
