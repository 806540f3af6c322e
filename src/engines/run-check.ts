import { InferkvError } from '../base/errors.ts';
import { tensorFault, type Tensors } from '../base/tensor.ts';
import type { SessionMetadata, TensorSpec } from './engine.ts';

/** A shape for people: `[1, N, ?]`. */
export function shapeText(shape: TensorSpec['shape']): string {
  return shape === 'any' ? 'of any shape' : `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

function names(specs: readonly TensorSpec[]): string {
  return specs.length === 0 ? 'nothing' : specs.map(({ name }) => `"${name}"`).join(', ');
}

const INDEX = /^(?:0|[1-9]\d{0,8})$/;

/** What `*` stands for in the name of one of the many tensors of a spec; `undefined` if it is none of them. */
function memberOf({ name: pattern, many }: TensorSpec, name: string): string | undefined {
  const prefix = pattern.slice(0, -1);
  if (many === undefined || !name.startsWith(prefix)) return undefined;
  const rest = name.slice(prefix.length);
  return many === 'map' || INDEX.test(rest) ? rest : undefined;
}

/** What is wrong with an input against its declaration, as the end of a sentence. */
function specFault(candidate: Tensors[string], spec: TensorSpec, symbols: Map<string, number>): string | undefined {
  const fault = tensorFault(candidate);
  if (fault !== undefined) return fault;
  if (spec.type !== 'any' && candidate.type !== spec.type) {
    return `has the type ${candidate.type}; the model takes ${spec.type}`;
  }
  return spec.shape === 'any' ? undefined : shapeFault(candidate.shape, spec.shape, symbols);
}

function shapeFault(
  shape: readonly number[],
  declared: readonly (number | string)[],
  symbols: Map<string, number>,
): string | undefined {
  const other = `has the shape ${shapeText(shape)}; the model takes ${shapeText(declared)}`;
  if (shape.length !== declared.length) return other;
  for (const [axis, expected] of declared.entries()) {
    const size = shape[axis];
    if (size === undefined) continue;
    if (typeof expected === 'number') {
      if (size !== expected) return other;
      continue;
    }
    if (expected === '') continue;
    const seen = symbols.get(expected);
    if (seen !== undefined && seen !== size) {
      return `has ${size} as its dimension "${expected}" where another input has ${seen}`;
    }
    symbols.set(expected, size);
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
  const specs = new Map(Object.keys(inputs).map((name) => [name, inputSpec(name, metadata)]));
  const symbols = new Map<string, number>();
  for (const spec of metadata.inputs) {
    const given = [...specs].filter(([, each]) => each === spec).map(([name]) => name);
    if (given.length === 0 && spec.optional !== true && spec.many === undefined) throw missing(spec, spec.name);
    if (spec.many === 'list') checkSequence(spec, given);
    for (const name of given) {
      const candidate = inputs[name];
      const fault = candidate === undefined ? 'is undefined' : specFault(candidate, spec, symbols);
      if (fault === undefined) continue;
      throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The input "${name}" ${fault}.`, { key: name });
    }
  }
}

/**
 * What the model says of an input.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_UNKNOWN`
 */
export function inputSpec(name: string, { inputs }: SessionMetadata): TensorSpec {
  const spec =
    inputs.find((each) => each.many === undefined && each.name === name) ??
    inputs.find((each) => memberOf(each, name) !== undefined);
  if (spec !== undefined) return spec;
  throw new InferkvError('ERR_INFERKV_INPUT_UNKNOWN', `The model has no input "${name}"; it takes ${names(inputs)}.`, {
    key: name,
  });
}

function missing(spec: TensorSpec, name: string): InferkvError {
  const type = spec.type === 'any' ? 'of any type' : spec.type;
  const what = `The input "${name}" (${type} ${shapeText(spec.shape)}) is missing.`;
  return new InferkvError('ERR_INFERKV_INPUT_MISSING', what, { key: name });
}

/** The tensors of a list have to be there from 0 on without a gap. */
function checkSequence(spec: TensorSpec, given: readonly string[]): void {
  const places = new Set(given.map((name) => memberOf(spec, name)));
  for (let place = 0; place < given.length; place++) {
    if (!places.has(String(place))) throw missing(spec, `${spec.name.slice(0, -1)}${place}`);
  }
}

/**
 * The names of the outputs a run is to fetch: those asked for, or all; `undefined` for all of a model that does not say
 * beforehand how many there will be.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_UNKNOWN`
 */
export function checkOutputs(
  wanted: readonly string[] | undefined,
  { outputs }: SessionMetadata,
): readonly string[] | undefined {
  if (wanted === undefined) {
    return outputs.some(({ many }) => many !== undefined) ? undefined : outputs.map(({ name }) => name);
  }
  for (const name of wanted) {
    if (!outputs.some((spec) => spec.name === name || memberOf(spec, name) !== undefined)) {
      throw unknownOutput(name, names(outputs));
    }
  }
  if (wanted.length === 0) {
    throw new InferkvError(
      'ERR_INFERKV_OUTPUT_UNKNOWN',
      'No output is asked for; name at least one, or leave the list out.',
    );
  }
  return [...new Set(wanted)];
}

/** @param known the outputs there are, for people */
export function unknownOutput(name: string, known: string): InferkvError {
  return new InferkvError('ERR_INFERKV_OUTPUT_UNKNOWN', `The model has no output "${name}"; it gives ${known}.`, {
    key: name,
  });
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
