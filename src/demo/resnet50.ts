/**
 * ResNet-50 with seeded weights: the real architecture at its real size (25.5 million parameters, 102 MB), so that
 * loading and running cost what they cost in earnest, with nothing to download. Its answers mean nothing.
 *
 * Source: He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385 (table 1, stride
 * in the 3x3 convolution as torchvision has it; batch normalisation folded into the convolutions, as exporters do).
 */
import { createRandom } from '../base/random.ts';
import { constant, model, node, value } from '../engines/onnx/model-writer.ts';
import type { Message } from '../engines/onnx/wire.ts';

/** The shape of the input, `[batch, channels, height, width]`. */
export const RESNET50_INPUT_SHAPE: readonly number[] = [1, 3, 224, 224];

/** How many classes the model tells apart. */
export const RESNET50_CLASSES = 1000;

const STAGES = [
  { blocks: 3, width: 64, stride: 1 },
  { blocks: 4, width: 128, stride: 2 },
  { blocks: 6, width: 256, stride: 2 },
  { blocks: 3, width: 512, stride: 2 },
] as const;

const EXPANSION = 4;

// Damps every residual branch, so that activations stay near one through fifty layers of random weights.
const RESIDUAL_GAIN = 0.2;

interface Convolution {
  readonly name: string;
  readonly input: string;
  readonly from: number;
  readonly to: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly gain?: number;
}

class ResNetBuilder {
  readonly nodes: Message[] = [];
  readonly constants: Message[] = [];
  readonly #random;

  constructor(seed: number) {
    this.#random = createRandom(seed);
  }

  weights(name: string, shape: readonly number[], bound: number): string {
    const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
    const random = this.#random;
    for (let i = 0; i < data.length; i++) data[i] = (random.next() * 2 - 1) * bound;
    this.constants.push(constant(name, 'float32', shape, data));
    return name;
  }

  convolution({ name, input, from, to, kernel, stride = 1, gain = 1 }: Convolution): string {
    // He initialisation: a uniform distribution of variance 2 / fan-in.
    const bound = gain * Math.sqrt(6 / (from * kernel * kernel));
    const weight = this.weights(`${name}.weight`, [to, from, kernel, kernel], bound);
    const bias = this.weights(`${name}.bias`, [to], 0.01);
    const pad = Math.floor(kernel / 2);
    this.nodes.push(
      node('Conv', [input, weight, bias], [name], {
        kernel_shape: [kernel, kernel],
        strides: [stride, stride],
        pads: [pad, pad, pad, pad],
      }),
    );
    return name;
  }

  relu(input: string): string {
    const output = `${input}.relu`;
    this.nodes.push(node('Relu', [input], [output]));
    return output;
  }

  bottleneck(name: string, input: string, from: number, width: number, stride: number): string {
    const to = width * EXPANSION;
    const narrow = this.relu(this.convolution({ name: `${name}.conv1`, input, from, to: width, kernel: 1 }));
    const middle = this.relu(
      this.convolution({ name: `${name}.conv2`, input: narrow, from: width, to: width, kernel: 3, stride }),
    );
    const wide = this.convolution({
      name: `${name}.conv3`,
      input: middle,
      from: width,
      to,
      kernel: 1,
      gain: RESIDUAL_GAIN,
    });
    const shortcut =
      from === to
        ? input
        : this.convolution({ name: `${name}.downsample`, input, from, to, kernel: 1, stride, gain: 0.7 });
    this.nodes.push(node('Add', [wide, shortcut], [name]));
    return this.relu(name);
  }
}

/** A ResNet-50 whose weights follow from `seed`: input `input` float32 [1, 3, 224, 224], output `logits` [1, 1000]. */
export function resnet50(seed = 50): Message {
  const builder = new ResNetBuilder(seed);
  const stem = builder.relu(
    builder.convolution({ name: 'conv1', input: 'input', from: 3, to: 64, kernel: 7, stride: 2 }),
  );
  builder.nodes.push(
    node('MaxPool', [stem], ['maxpool'], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
  );
  let at = 'maxpool';
  let channels = 64;
  for (const [stage, { blocks, width, stride }] of STAGES.entries()) {
    for (let block = 0; block < blocks; block++) {
      at = builder.bottleneck(`layer${stage + 1}.${block}`, at, channels, width, block === 0 ? stride : 1);
      channels = width * EXPANSION;
    }
  }
  const weight = builder.weights('fc.weight', [RESNET50_CLASSES, channels], 1 / Math.sqrt(channels));
  const bias = builder.weights('fc.bias', [RESNET50_CLASSES], 0.01);
  builder.nodes.push(
    node('GlobalAveragePool', [at], ['avgpool']),
    node('Flatten', ['avgpool'], ['features'], { axis: 1 }),
    node('Gemm', ['features', weight, bias], ['logits'], { transB: 1 }),
  );
  return model({
    name: 'resnet50',
    nodes: builder.nodes,
    constants: builder.constants,
    inputs: [value('input', 'float32', RESNET50_INPUT_SHAPE)],
    outputs: [value('logits', 'float32', [1, RESNET50_CLASSES])],
  });
}
