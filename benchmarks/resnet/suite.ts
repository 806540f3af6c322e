/** The first story in figures: ResNet-50 loaded for each request, resident, and answered from the cache, by each engine. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { isInferkvError } from '../../src/base/errors.ts';
import { syntheticImage } from '../../src/demo/index.ts';
import { createInferenceCache, type CachedModel, type Tensor } from '../../src/index.ts';
import {
  inTurns,
  median,
  percentile,
  timed,
  watchLoop,
  type Figures,
  type Suite,
  type SuiteOptions,
} from '../suite.ts';
import { onnx, torchscript, type Contender } from './contenders.ts';
import type { MemoryReport } from './memory.ts';

// More than one, so that a hit is hashed from memory and not from the processor's cache alone.
const IMAGES = 8;

const BYTES_PER_MB = 1e6;

export const resnet: Suite = {
  name: 'resnet',
  summary: 'ResNet-50, 600 KB in, in ONNX Runtime and libtorch: cold, the engine alone, resident, cached; memory',
  run,
};

async function run(options: SuiteOptions): Promise<Figures> {
  const figures: Record<string, number> = {};
  for (const make of [onnx, torchscript]) {
    let contender: Contender;
    try {
      contender = await make();
    } catch (error) {
      if (!isInferkvError(error, 'ERR_INFERKV_PEER_MISSING')) throw error;
      options.progress(`left out: ${error.message}`);
      continue;
    }
    const own = { ...(await speed(contender, options)), ...memory(contender, options) };
    for (const [name, value] of Object.entries(own)) figures[`${contender.engine}.${name}`] = value;
  }
  return figures;
}

async function speed(contender: Contender, { quick, progress: tell }: SuiteOptions): Promise<Figures> {
  const progress = (what: string): void => tell(`${contender.engine}: ${what}`);
  await using cache = createInferenceCache({ repository: contender.repository });
  const model = cache.model('resnet50');
  const images = Array.from({ length: IMAGES }, (_, seed) => syntheticImage(seed));
  const image = (round: number): Tensor => images[round % IMAGES] as Tensor;
  const inputs = (input: Tensor): Record<string, Tensor> => ({ [contender.input]: input });

  progress('cold: the model is let go and loaded again');
  const loads: number[] = [];
  const firstRuns: number[] = [];
  for (let round = 0; round < (quick ? 2 : 7); round++) {
    loads.push(await timed(() => model.load()));
    firstRuns.push(await timed(() => model.run(inputs(image(round)), { cache: 'bypass' })));
    await model.unload();
  }
  const cold = loads.map((ms, at) => ms + (firstRuns[at] ?? 0));

  const { path } = await model.status();
  const defaults = await contender.withDefaults?.(path, images, quick, progress);
  progress('the engine alone, resident and hits in turns');
  const raw = await contender.open(path);
  for (const input of [...images, ...images]) {
    await raw.run(input);
    await model.run(inputs(input), { cache: 'refresh' });
  }
  // The first hit after a run finds the processor's caches full of weights; it has a figure of its own.
  const hitsAfterRun: number[] = [];
  const hits: number[] = [];
  const times = await inTurns(quick ? 8 : 80, {
    raw: (round) => raw.run(image(round)),
    resident: (round) => model.run(inputs(image(round)), { cache: 'bypass' }),
    hits: async () => {
      for (const [at, input] of images.entries()) {
        (at === 0 ? hitsAfterRun : hits).push(await timed(() => model.run(inputs(input))));
      }
    },
  });
  await raw.release();
  progress('the event loop while it runs');
  const gaps = await gapsWhileRunning(model, inputs(image(0)), quick ? 2000 : 30_000);

  const rawMs = median(times.raw);
  const residentMs = median(times.resident);
  const hitMs = median(hits);
  return {
    load_ms: median(loads),
    first_run_ms: median(firstRuns),
    cold_ms: median(cold),
    raw_ms: rawMs,
    ...(defaults !== undefined && { raw_defaults_ms: defaults }),
    resident_ms: residentMs,
    hit_ms: hitMs,
    hit_after_run_ms: median(hitsAfterRun),
    resident_over_raw: residentMs / rawMs,
    compute_over_hit: rawMs / hitMs,
    loop_gap_p999_ms: percentile(gaps, 0.999),
    loop_gap_max_ms: Math.max(...gaps),
  };
}

async function gapsWhileRunning(
  model: CachedModel,
  inputs: Record<string, Tensor>,
  forMs: number,
): Promise<readonly number[]> {
  const until = performance.now() + forMs;
  const repeat = async (): Promise<void> => {
    while (performance.now() < until) await model.run(inputs, { cache: 'bypass' });
  };
  const [gaps] = await Promise.all([watchLoop(until), repeat(), repeat()]);
  return gaps;
}

/** What the model takes in a process of its own: with one worker thread, and what a second adds. */
function memory({ engine, repository }: Contender, { progress }: SuiteOptions): Figures {
  progress(`${engine}: memory, with one worker and with two`);
  const [none, one, two] = [0, 1, 2].map((workers) => privateBytes(repository, workers));
  if (none === undefined || one === undefined || two === undefined) return {};
  return {
    private_mb: (one - none) / BYTES_PER_MB,
    second_worker_mb: (two - one) / BYTES_PER_MB,
    second_worker_over_first: (two - one) / (one - none),
  };
}

function privateBytes(repository: string, workers: number): number | undefined {
  const program = join(import.meta.dirname, 'memory.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, repository, String(workers)], {
    encoding: 'utf8',
    // Without these glibc keeps what was freed, and a load that took twice its size for a moment would show for ever.
    env: { ...process.env, MALLOC_TRIM_THRESHOLD_: '100000', MALLOC_MMAP_THRESHOLD_: '65536' },
  });
  if (status !== 0) throw new Error(`memory.ts failed: ${stderr}`);
  return (JSON.parse(stdout) as MemoryReport).privateBytes;
}
