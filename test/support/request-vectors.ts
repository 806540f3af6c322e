/** Requests in a form that JSON holds exactly: tensor bytes in hex, texts as they are. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { PlainValue } from '../../src/base/canonical.ts';
import { numericView, type Tensor, type TensorType } from '../../src/base/tensor.ts';
import type { ModelIdentity, RequestIdentity } from '../../src/inference/request-key.ts';

interface PlainTensor {
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly hex?: string;
  readonly texts?: readonly string[];
}

interface PlainRequest {
  readonly outputs?: readonly string[];
  readonly parameters?: { readonly [name: string]: PlainValue };
  readonly tenant?: string;
  readonly inputs: { readonly [name: string]: PlainTensor };
}

/** A request with the key that it must have for ever. */
export interface RequestVector {
  readonly name: string;
  readonly model: ModelIdentity;
  readonly request: PlainRequest;
  readonly key: string;
}

export const vectorsPath: string = join(import.meta.dirname, '..', 'fixtures', 'request-key-vectors.json');

export function readVectors(): readonly RequestVector[] {
  return JSON.parse(readFileSync(vectorsPath, 'utf8')) as readonly RequestVector[];
}

export function requestOf({ inputs, ...rest }: PlainRequest): RequestIdentity {
  const tensors = Object.entries(inputs).map(([name, plain]) => [name, tensorOf(plain)] as const);
  return { ...rest, inputs: Object.fromEntries(tensors) };
}

function tensorOf({ type, shape, hex = '', texts = [] }: PlainTensor): Tensor {
  if (type === 'string') return { type, shape, data: texts };
  const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
  return { type, shape, data: numericView(type, shape, bytes.buffer) };
}
