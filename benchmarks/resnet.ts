/** The first story in figures: ResNet-50 loaded for each request, resident, and answered from the cache. */
import { availableParallelism } from 'node:os';

import type { InferenceSession } from 'onnxruntime-node';

import { createInferenceCache, type Tensor } from '../src/index.ts';
import { demoRepository, syntheticImage } from '../src/demo/index.ts';
import { loadOrt } from '../src/engines/onnx/peer.ts';
import { inTurns, median, timed, type Figures, type Suite, type SuiteOptions } from './suite.ts';

// More than one, so that a hit is hashed from memory and not from the processor's cache alone.
const IMAGES = 8;

export const resnet: Suite = {
  name: 'resnet',
  summary: 'ResNet-50, 600 KB in: cold, raw onnxruntime-node, resident, cached',
  run,
};

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  await using cache = createInferenceCache({ repository: await demoRepository() });
  const model = cache.model('resnet50');
  const images = Array.from({ length: IMAGES }, (_, seed) => syntheticImage(seed));
  const image = (round: number): Tensor => images[round % IMAGES] as Tensor;

  progress('cold: the model is let go and loaded again');
  const cold: number[] = [];
  for (let round = 0; round < (quick ? 2 : 7); round++) {
    cold.push(await timed(() => model.run({ input: image(round) }, { cache: 'bypass' })));
    await model.unload();
  }

  const { path } = await model.status();
  const [first] = images;
  if (first === undefined) throw new Error('no images');
  progress('raw with its defaults');
  // Its threads spin for a while after each run and would take cores from whoever comes next, so it has a turn of its own.
  const spinning = await openRaw(path, {});
  const rawDefault: number[] = [];
  for (let round = -2; round < (quick ? 6 : 40); round++) {
    const ms = await timed(() => spinning.run(first));
    if (round >= 0) rawDefault.push(ms);
  }
  await spinning.release();

  progress('raw, resident and hits in turns');
  const raw = await openRaw(path, {
    intraOpNumThreads: availableParallelism(),
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  for (const input of images) {
    await raw.run(input);
    await model.run({ input });
  }
  // The first hit after a run finds the processor's caches full of weights; it has a figure of its own.
  const hitsAfterRun: number[] = [];
  const hits: number[] = [];
  const times = await inTurns(quick ? 8 : 80, {
    raw: (round) => raw.run(image(round)),
    resident: (round) => model.run({ input: image(round) }, { cache: 'bypass' }),
    hits: async () => {
      for (const [at, input] of images.entries()) {
        (at === 0 ? hitsAfterRun : hits).push(await timed(() => model.run({ input })));
      }
    },
  });
  await raw.release();

  const rawMs = median(times.raw);
  const residentMs = median(times.resident);
  const hitMs = median(hits);
  return {
    'onnx.cold_ms': median(cold),
    'onnx.raw_ms': rawMs,
    'onnx.raw_defaults_ms': median(rawDefault),
    'onnx.resident_ms': residentMs,
    'onnx.hit_ms': hitMs,
    'onnx.hit_after_run_ms': median(hitsAfterRun),
    'onnx.resident_over_raw': residentMs / rawMs,
    'onnx.compute_over_hit': rawMs / hitMs,
  };
}

/** The peer: onnxruntime-node as it is, in the calling thread. */
async function openRaw(
  path: string,
  options: InferenceSession.SessionOptions,
): Promise<{ run(input: Tensor): Promise<unknown>; release(): Promise<void> }> {
  const ort = await loadOrt();
  const session = await ort.InferenceSession.create(path, options);
  return {
    run: ({ data, shape }) => session.run({ input: new ort.Tensor('float32', data as Float32Array, shape) }),
    release: () => session.release(),
  };
}
