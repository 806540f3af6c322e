import { invariant } from '../../base/assertions.ts';
import { InferkvError, messageOf } from '../../base/errors.ts';
import { bytesOf, isStrings, isTensorType, numericView, elementCount, type Tensor } from '../../base/tensor.ts';
import type { SessionMetadata } from '../engine.ts';
import { transferable, type ModelRunner, type RunReply } from '../model-thread.ts';
import { unknownOutput } from '../run-check.ts';
import type { NamedTensor, Notice, RunRequest } from '../worker-protocol.ts';
import type { BorderOutput, NativeModel } from './addon.ts';
import type { TorchOptions } from './options.ts';
import { Signature } from './signature.ts';

/** One TorchScript method, in the thread it runs in. */
export class TorchRunner implements ModelRunner {
  readonly metadata: SessionMetadata;
  readonly notices: readonly Notice[];
  readonly #model: NativeModel;
  readonly #method: string;
  readonly #threads: number;
  readonly #signature: Signature;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a method that does not exist, and what `Signature` throws */
  constructor(
    model: NativeModel,
    threads: number,
    { method, inputs, outputs }: TorchOptions,
    notices: readonly Notice[] = [],
  ) {
    this.#model = model;
    this.#method = method;
    this.#threads = threads;
    this.notices = notices;
    try {
      this.#signature = new Signature(model.describe(method), inputs, outputs);
    } catch (error) {
      model.release();
      if (error instanceof InferkvError) throw error;
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `session.engine.method "${method}" is none of the model's: ${torchMessage(error)}.`,
        { cause: error, key: method },
      );
    }
    this.metadata = this.#signature.metadata;
  }

  get sharesWeights(): boolean {
    return this.#model.isShared;
  }

  run({ inputs, outputs: wanted, into }: RunRequest): RunReply {
    const signature = this.#signature;
    const values = signature.valuesOf(inputs);
    const targets = new Map(into.map(([name, target]) => [signature.ownName(name), target]));
    const own = wanted?.map((name) => signature.ownName(name));
    const { outputs: given, names, computeMs } = this.#call(values, own, targets);
    const absent = own?.find((name) => !names.includes(name));
    if (absent !== undefined)
      throw unknownOutput(signature.calledBy(absent), names.map((name) => `"${name}"`).join(', '));
    const outputs = given.map((output): NamedTensor => [
      signature.calledBy(output.name),
      tensorOf(output, targets.get(output.name)),
    ]);
    return { reply: { kind: 'done', outputs, computeMs }, transfer: transferable(outputs) };
  }

  release(): void {
    this.#model.release();
  }

  #call(
    values: Parameters<NativeModel['run']>[1],
    outputs: readonly string[] | undefined,
    targets: ReadonlyMap<string, Tensor>,
  ): ReturnType<NativeModel['run']> {
    const memory = [...targets].flatMap(([name, { type, data }]) =>
      isStrings(data) ? [] : [[name, { type, bytes: bytesOf(data) }] as const],
    );
    try {
      return this.#model.run(this.#method, values, this.#threads, outputs, Object.fromEntries(memory));
    } catch (error) {
      throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', `The model failed: ${torchMessage(error)}`, { cause: error });
    }
  }
}

function tensorOf({ name, type, shape, buffer, text }: BorderOutput, target: Tensor | undefined): Tensor {
  if (text !== undefined) return { type: 'string', shape, data: [text] };
  if (!isTensorType(type) || type === 'string') {
    throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', `The output "${name}" is of the unknown type ${type}.`);
  }
  if (buffer !== undefined) return { type, shape, data: numericView(type, shape, buffer) };
  invariant(target !== undefined && !isStrings(target.data), 'an output lies nowhere');
  return { type, shape, data: target.data.subarray(0, elementCount(shape)) };
}

const EXCEPTION = /(?:^|\n)\s*((?:[A-Za-z_][\w.]*)?(?:Error|Exception): [^]*)$/;
const LONGEST_MESSAGE = 2000;

/** What libtorch says, without the trace in front, which names files of the machine that the model was made on. */
export function torchMessage(error: unknown): string {
  let text = messageOf(error);
  for (let found = EXCEPTION.exec(text); found?.[1] !== undefined && found[1] !== text; found = EXCEPTION.exec(text)) {
    text = found[1];
  }
  const isTrace = /^(?:The following operation failed|Traceback)/.test(text);
  const shown = (isTrace ? (text.split('\n').findLast((line) => line.trim() !== '') ?? '') : text).trim();
  return shown.length > LONGEST_MESSAGE ? `${shown.slice(0, LONGEST_MESSAGE)}...` : shown;
}
