/** Small ONNX models, written on the spot. */
import {
  constant,
  encodeModel,
  externalConstant,
  model,
  node,
  value,
  type Dimension,
} from '../../src/engines/onnx/model-writer.ts';
import type { TensorType } from '../../src/base/tensor.ts';

interface Port {
  readonly type?: TensorType;
  readonly shape: readonly Dimension[];
}

type Ports = Readonly<Record<string, Port>>;

function ports(named: Ports): ReturnType<typeof value>[] {
  return Object.entries(named).map(([name, { type = 'float32', shape }]) => value(name, type, shape));
}

function graph(
  nodes: readonly ReturnType<typeof node>[],
  inputs: Ports,
  outputs: Ports,
  constants: readonly ReturnType<typeof constant>[] = [],
): Uint8Array<ArrayBuffer> {
  return encodeModel(model({ name: 'test', nodes, constants, inputs: ports(inputs), outputs: ports(outputs) }));
}

/** `y` is `x`, of any type, over `[N, 3]` if nothing else is said. */
export function identity(type: TensorType, shape: readonly Dimension[] = ['N', 3]): Uint8Array {
  return graph([node('Identity', ['x'], ['y'])], { x: { type, shape } }, { y: { type, shape } });
}

/** `y = x * factor` over float32 `[N]`: as many different contents as there are factors. */
export function scaling(factor: number): Uint8Array {
  const by = constant('factor', 'float32', [1], Float32Array.of(factor));
  return graph([node('Mul', ['x', 'factor'], ['y'])], { x: { shape: ['N'] } }, { y: { shape: ['N'] } }, [by]);
}

/** `sum = a + b` and `difference = a - b` over float32 `[N, 2]`. */
export function twoByTwo(): Uint8Array {
  const shape = ['N', 2];
  return graph(
    [node('Add', ['a', 'b'], ['sum']), node('Sub', ['a', 'b'], ['difference'])],
    { a: { shape }, b: { shape } },
    { sum: { shape }, difference: { shape } },
  );
}

/** Places of the elements that are not zero: an output whose shape follows from values. */
export function nonZero(): Uint8Array {
  return graph(
    [node('NonZero', ['x'], ['places'])],
    { x: { shape: ['N'] } },
    { places: { type: 'int64', shape: [1, 'found'] } },
  );
}

/** `y` of fixed shape `[2, 2]`. */
export function fixedShape(): Uint8Array {
  return graph([node('Relu', ['x'], ['y'])], { x: { shape: [2, 2] } }, { y: { shape: [2, 2] } });
}

/** Divides integers, which fails for a divisor whose shape does not fit: an error of the run, not of the load. */
export function failing(): Uint8Array {
  return graph(
    [node('Reshape', ['x', 'to'], ['y'])],
    { x: { shape: ['N'] }, to: { type: 'int64', shape: ['rank'] } },
    { y: { shape: ['', ''] } },
  );
}

/** A run of some hundred milliseconds: a square matrix multiplied with itself, again and again. */
export function slow(side = 768, times = 16): Uint8Array {
  const shape = [side, side];
  const nodes = Array.from({ length: times }, (_, at) =>
    node('MatMul', [at === 0 ? 'x' : `x${at}`, 'x'], [`x${at + 1}`]),
  );
  nodes.push(node('ReduceMax', [`x${times}`], ['y'], { keepdims: 0 }));
  return graph(nodes, { x: { shape } }, { y: { shape: [] } });
}

/** As `scaling`, with its factor in a file of its own. */
export function externalScaling(location: string): Uint8Array {
  const by = externalConstant('factor', 'float32', [1], location);
  return graph([node('Mul', ['x', 'factor'], ['y'])], { x: { shape: ['N'] } }, { y: { shape: ['N'] } }, [by]);
}

/** 4-bit numbers in and out: `wide` is `x` as float32, `narrow` is `y` (float32) as 4-bit numbers. */
export function fourBits(type: 'int4' | 'uint4', elements: number): Uint8Array {
  const scale = constant('scale', 'float32', [], Float32Array.of(1));
  const zero = constant('zero', type, [], Uint8Array.of(0));
  const shape = [elements];
  return graph(
    [
      node('DequantizeLinear', ['x', 'scale', 'zero'], ['wide']),
      node('QuantizeLinear', ['y', 'scale', 'zero'], ['narrow']),
    ],
    { x: { type, shape }, y: { shape } },
    { wide: { shape }, narrow: { type, shape } },
    [scale, zero],
  );
}
