/** The engines themselves, without the cache, in the calling thread. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';

import type { InferenceSession } from 'onnxruntime-node';

import { bytesOf, type NumericData, type Tensor } from '../../src/base/tensor.ts';
import { demoRepository, torchscriptRepository } from '../../src/demo/index.ts';
import { loadOrt } from '../../src/engines/onnx/peer.ts';
import { builtAddon, loadAddon } from '../../src/engines/torchscript/addon.ts';
import { median, timed } from '../suite.ts';

/** A model in an engine, held by the engine alone. */
export interface RawSession {
  run(input: Tensor): Promise<unknown>;
  release(): Promise<void>;
}

/** ResNet-50 in one engine. */
export interface Contender {
  readonly engine: string;
  readonly repository: string;
  /** The name of its input. */
  readonly input: string;
  /** With the settings that the cache gives it, and as many threads. */
  open(path: string): Promise<RawSession>;
  /** Milliseconds of a run with the engine's own settings, where those differ. */
  withDefaults?(
    path: string,
    images: readonly Tensor[],
    quick: boolean,
    progress: (what: string) => void,
  ): Promise<number>;
}

export async function onnx(): Promise<Contender> {
  return {
    engine: 'onnx',
    repository: await demoRepository(),
    input: 'input',
    open: (path) =>
      openOnnx(path, {
        intraOpNumThreads: availableParallelism(),
        extra: { session: { intra_op: { allow_spinning: '0' } } },
      }),
    async withDefaults(path, images, quick, progress) {
      progress('the engine alone, with its defaults');
      // Its threads spin for a while after each run and would take cores from whoever comes next, so it has a turn of its own.
      const spinning = await openOnnx(path, {});
      const times: number[] = [];
      for (let round = -2; round < (quick ? 6 : 40); round++) {
        const ms = await timed(() => spinning.run(images[0] as Tensor));
        if (round >= 0) times.push(ms);
      }
      await spinning.release();
      return median(times);
    },
  };
}

async function openOnnx(path: string, options: InferenceSession.SessionOptions): Promise<RawSession> {
  const ort = await loadOrt();
  const session = await ort.InferenceSession.create(path, options);
  return {
    run: ({ data, shape }) => session.run({ input: new ort.Tensor('float32', data as Float32Array, shape) }),
    release: () => session.release(),
  };
}

export async function torchscript(): Promise<Contender> {
  void builtAddon();
  return {
    engine: 'torchscript',
    repository: await torchscriptRepository(),
    input: 'x',
    async open(path) {
      const { addon } = loadAddon();
      const options = { freeze: false, optimizeForInference: false, method: 'forward' };
      // Under a name of its own, so that it shares nothing with the cache's.
      const model = addon.load(`raw ${path}`, await readFile(path), options);
      const threads = availableParallelism();
      return {
        run: async ({ type, shape, data }) => {
          const bytes = bytesOf(data as NumericData);
          return model.run('forward', [{ type, shape, bytes }], threads, undefined, {});
        },
        release: async () => model.release(),
      };
    },
  };
}
