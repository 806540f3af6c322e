/**
 * A TorchScript method as named tensors. Arguments that hold several are taken apart: `pair.0` and `pair.1` are the
 * parts of a tuple, `state.hidden` the field of a named one, `images.0`, `images.1`, ... the elements of a list, and
 * `features.KEY` the entries of a dictionary. Numbers, booleans and strings are tensors without dimensions, lists of
 * them tensors of one.
 *
 * Outputs: one tensor is `output`; parts of a tuple or a list are `output_0`, `output_1`; those of a named tuple or a
 * dictionary have their own names; whatever lies deeper hangs on that with a dot.
 */
import { InferkvError } from '../../base/errors.ts';
import { bytesOf, isStrings, type Tensor, type TensorType } from '../../base/tensor.ts';
import type { SessionMetadata, TensorSpec } from '../engine.ts';
import type { NamedTensor } from '../worker-protocol.ts';
import type { BorderValue, DescribedMethod, DescribedType } from './addon.ts';
import type { DeclaredTensor } from './options.ts';

type Inputs = ReadonlyMap<string, Tensor>;

const SCALARS: Readonly<Record<string, TensorType>> = {
  IntType: 'int64',
  FloatType: 'float64',
  BoolType: 'bool',
  StringType: 'string',
};

/** How many outputs a fixed structure gives is known; a list or a dictionary decides at run time. */
interface Outputs {
  readonly specs: readonly TensorSpec[];
  /** Names that the caller uses, by those that the structure gives. */
  readonly renamed: ReadonlyMap<string, string>;
}

/** What a method takes and gives, and how named tensors become its arguments. */
export class Signature {
  readonly metadata: SessionMetadata;
  readonly #method: DescribedMethod;
  readonly #calledBy: ReadonlyMap<string, string>;
  readonly #calls: ReadonlyMap<string, string>;

  /** @throws InferkvError `ERR_INFERKV_ARTIFACT_INVALID` for arguments that tensors cannot be, `ERR_INFERKV_CONFIG_INVALID` */
  constructor(method: DescribedMethod, inputs: readonly DeclaredTensor[], outputs: readonly DeclaredTensor[]) {
    this.#method = method;
    const specs = method.arguments.flatMap((argument) =>
      inputSpecs(argument.name, argument, argument.hasDefault).map((spec) => declaredAs(spec, inputs)),
    );
    for (const { name } of inputs) {
      if (!specs.some((spec) => spec.name === name)) throw undeclarable('inputs', name, specs);
    }
    const given = outputsOf(method.returns, outputs);
    this.metadata = { inputs: specs, outputs: given.specs };
    this.#calledBy = given.renamed;
    this.#calls = new Map([...given.renamed].map(([own, callers]) => [callers, own]));
  }

  /** The method's arguments, in their order. */
  valuesOf(inputs: readonly NamedTensor[]): readonly BorderValue[] {
    const byName = new Map(inputs);
    return this.#method.arguments.map((argument) => valueOf(argument.name, argument, byName, argument.hasDefault));
  }

  /** The name that callers use for an output of the method. */
  calledBy(own: string): string {
    return this.#calledBy.get(own) ?? own;
  }

  /** The method's own name for an output that callers ask for. */
  ownName(called: string): string {
    return this.#calls.get(called) ?? called;
  }
}

function declaredAs(spec: TensorSpec, declarations: readonly DeclaredTensor[]): TensorSpec {
  const found = declarations.find(({ name }) => name === spec.name);
  if (found === undefined) return spec;
  return { ...spec, type: found.type ?? spec.type, shape: found.shape ?? spec.shape };
}

function undeclarable(where: string, name: string, specs: readonly TensorSpec[]): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `session.engine.${where} declares "${name}", which the method does not have; there are: ${specs.map((spec) => spec.name).join(', ') || 'none'}.`,
    { key: name },
  );
}

function inputSpecs(name: string, type: DescribedType, optional: boolean): readonly TensorSpec[] {
  const may = optional ? ({ optional: true } as const) : {};
  const scalar = SCALARS[type.kind];
  if (scalar !== undefined) return [{ name, type: scalar, shape: [], ...may }];
  const [element] = type.elements;
  switch (type.kind) {
    case 'TensorType':
      return [{ name, type: 'any', shape: 'any', ...may }];
    case 'OptionalType':
      if (element !== undefined) return inputSpecs(name, element, true);
      break;
    case 'TupleType':
      return type.elements.flatMap((part, at) => inputSpecs(`${name}.${type.names?.[at] ?? at}`, part, optional));
    case 'ListType': {
      const elements = SCALARS[element?.kind ?? ''];
      if (elements !== undefined) return [{ name, type: elements, shape: [''], ...may }];
      if (element?.kind === 'TensorType') return [{ name: `${name}.*`, type: 'any', shape: 'any', many: 'list' }];
      break;
    }
    case 'DictType':
      if (element?.kind === 'StringType' && type.elements[1]?.kind === 'TensorType') {
        return [{ name: `${name}.*`, type: 'any', shape: 'any', many: 'map' }];
      }
  }
  throw new InferkvError(
    'ERR_INFERKV_ARTIFACT_INVALID',
    `The method takes "${name}" as ${type.text}, which cannot be given as tensors; wrap the model in a method that takes tensors, numbers, strings, tuples, List[Tensor] or Dict[str, Tensor].`,
    { key: name },
  );
}

function outputsOf(returns: DescribedType, declarations: readonly DeclaredTensor[]): Outputs {
  const specs = outputSpecs('', returns);
  const fixed = specs.filter(({ many }) => many === undefined);
  if (fixed.length < specs.length) {
    // Of what is decided at run time only types and shapes can be told, not other names.
    const told = declarations.map(({ name, type, shape }): TensorSpec => ({
      name,
      type: type ?? 'any',
      shape: shape ?? 'any',
    }));
    return {
      specs: [...told, ...specs.filter((spec) => !told.some(({ name }) => name === spec.name))],
      renamed: new Map(),
    };
  }
  if (declarations.length > fixed.length) {
    throw undeclarable('outputs', declarations[fixed.length]?.name ?? '', fixed);
  }
  const renamed = new Map(declarations.map(({ name }, at) => [fixed[at]?.name ?? '', name]));
  return {
    renamed,
    specs: fixed.map((spec) => declaredAs({ ...spec, name: renamed.get(spec.name) ?? spec.name }, declarations)),
  };
}

function outputSpecs(path: string, type: DescribedType): readonly TensorSpec[] {
  const name = path === '' ? 'output' : path;
  const scalar = SCALARS[type.kind];
  if (scalar !== undefined) return [{ name, type: scalar, shape: [] }];
  switch (type.kind) {
    case 'TensorType':
      return [{ name, type: 'any', shape: 'any' }];
    case 'TupleType':
      return type.elements.flatMap((part, at) => outputSpecs(partName(path, type.names?.[at] ?? at), part));
    case 'ListType':
      return [{ name: partName(path, '*', true), type: 'any', shape: 'any', many: 'map' }];
    default:
      // Dictionaries, optional values and whatever only a run can tell.
      return [{ name: path === '' ? '*' : `${path}*`, type: 'any', shape: 'any', many: 'map' }];
  }
}

function partName(path: string, part: string | number, isPlace = typeof part === 'number'): string {
  if (path !== '') return `${path}.${part}`;
  return isPlace ? `output_${part}` : String(part);
}

/** @param optional whether it may be left out for the method's own default, or for nothing */
function valueOf(name: string, type: DescribedType, inputs: Inputs, optional: boolean): BorderValue {
  const [element] = type.elements;
  if (type.kind === 'OptionalType' && element !== undefined) return valueOf(name, element, inputs, true);
  if (type.kind === 'TupleType') {
    const parts = type.elements.map((part, at) => valueOf(`${name}.${type.names?.[at] ?? at}`, part, inputs, optional));
    return parts.length > 0 && parts.every((part) => part === undefined) ? undefined : parts;
  }
  const isMany = element !== undefined && SCALARS[element.kind] === undefined;
  if (type.kind === 'ListType' && isMany) return emptyAsDefault(listOf(name, inputs), optional);
  if (type.kind === 'DictType') return emptyAsDefault(entriesOf(name, inputs), optional);
  const given = inputs.get(name);
  if (given === undefined) return undefined;
  if (type.kind === 'TensorType') return borderTensor(name, given);
  const elements = [...given.data].map((each) => scalarOf(type.kind === 'ListType' ? element?.kind : type.kind, each));
  return type.kind === 'ListType' ? elements : elements[0];
}

function emptyAsDefault(values: readonly BorderValue[], optional: boolean): BorderValue {
  return values.length === 0 && optional ? undefined : values;
}

function listOf(name: string, inputs: Inputs): readonly BorderValue[] {
  const values: BorderValue[] = [];
  for (let at = 0; ; at++) {
    const given = inputs.get(`${name}.${at}`);
    if (given === undefined) return values;
    values.push(borderTensor(`${name}.${at}`, given));
  }
}

function entriesOf(name: string, inputs: Inputs): readonly BorderValue[] {
  const prefix = `${name}.`;
  return [...inputs]
    .filter(([each]) => each.startsWith(prefix))
    .map(([each, given]) => [each.slice(prefix.length), borderTensor(each, given)]);
}

function borderTensor(name: string, { type, shape, data }: Tensor): BorderValue {
  if (!isStrings(data)) return { type, shape, bytes: bytesOf(data) };
  throw new InferkvError(
    'ERR_INFERKV_INPUT_INVALID',
    `The input "${name}" holds strings; libtorch has no such tensors.`,
    {
      key: name,
    },
  );
}

function scalarOf(kind: string | undefined, element: number | bigint | string): BorderValue {
  return kind === 'BoolType' ? element !== 0 : element;
}
