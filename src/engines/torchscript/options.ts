import { z } from 'zod';

import { InferkvError } from '../../base/errors.ts';
import { isTensorType, type TensorType } from '../../base/tensor.ts';

/** What the user says of an input or output, as a TorchScript model itself says nothing of types and shapes. */
export interface DeclaredTensor {
  readonly name: string;
  readonly type?: TensorType | undefined;
  /** Sizes, outermost first; a name for a free dimension. */
  readonly shape?: readonly (number | string)[] | undefined;
}

/** How a TorchScript model is loaded: `session.engine` in its settings. */
export interface TorchOptions {
  /** The method that runs, `forward` if left out; of a submodule as `encoder.forward`, or `layer1` for its `forward`. */
  readonly method: string;
  /** Folds attributes into constants and drops what the method does not need. */
  readonly freeze: boolean;
  /** Freezes, and fuses and lays out for this processor: faster, and other in the last bits. */
  readonly optimizeForInference: boolean;
  /** Types and shapes of inputs, by the names of the method's arguments. */
  readonly inputs: readonly DeclaredTensor[];
  /** Names, types and shapes of outputs, in the method's order. */
  readonly outputs: readonly DeclaredTensor[];
}

const declared = z.strictObject({
  name: z.string().min(1),
  type: z.custom<TensorType>(isTensorType, 'is no element type').optional(),
  shape: z.array(z.union([z.number().int().nonnegative(), z.string()])).optional(),
});

const schema = z.strictObject({
  method: z
    .string()
    .regex(/^[A-Za-z_0-9]+(?:[.][A-Za-z_0-9]+)*$/, 'is no name of a method')
    .default('forward'),
  freeze: z.boolean().default(false),
  optimizeForInference: z.boolean().default(false),
  inputs: z.array(declared).default([]),
  outputs: z.array(declared).default([]),
});

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
export function checkTorchOptions(given: Readonly<Record<string, unknown>>): TorchOptions {
  const checked = schema.safeParse(given);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map(({ path, message }) => `session.engine.${path.join('.')} ${message}`);
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `The settings of a TorchScript model are not valid: ${faults.slice(0, 5).join('; ')}.`,
    { cause: checked.error },
  );
}
