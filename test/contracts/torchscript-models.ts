import type { TensorType } from '../../src/base/tensor.ts';
import { torchModel } from '../support/torchscript.ts';
import type { ContractModel, ContractModels } from './engine.ts';

type Declared = readonly (readonly [name: string, type: TensorType, shape: readonly (number | string)[]])[];

/** A model with the types and shapes that the contract asks for, which a TorchScript file itself does not hold. */
function declared(file: string, inputs: Declared, outputs: Declared): ContractModel {
  const spec = ([name, type, shape]: Declared[number]): object => ({ name, type, shape });
  return { content: torchModel(file), engine: { inputs: inputs.map(spec), outputs: outputs.map(spec) } };
}

/** The contract's models in TorchScript. */
export const torchscriptModels: ContractModels = {
  ending: '.pt',
  types: ['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'int32', 'int64', 'bool'],
  identity: (type, shape = ['N', 3]) => declared('Identity', [['x', type, shape]], [['y', type, shape]]),
  scaling: (factor) => declared(`scaling-${factor}`, [['x', 'float32', ['N']]], [['y', 'float32', ['N']]]),
  twoByTwo: () =>
    declared(
      'TwoByTwo',
      [
        ['a', 'float32', ['N', 2]],
        ['b', 'float32', ['N', 2]],
      ],
      [
        ['sum', 'float32', ['N', 2]],
        ['difference', 'float32', ['N', 2]],
      ],
    ),
  fixedShape: () => declared('FixedShape', [['x', 'float32', [2, 2]]], [['y', 'float32', [2, 2]]]),
  nonZero: () => declared('NonZero', [['x', 'float32', ['N']]], [['places', 'int64', [1, 'found']]]),
  failing: () =>
    declared(
      'Failing',
      [
        ['x', 'float32', ['N']],
        ['to', 'int64', ['rank']],
      ],
      [['y', 'float32', ['', '']]],
    ),
  slow: () => declared('Slow', [['x', 'float32', [768, 768]]], [['y', 'float32', []]]),
};
