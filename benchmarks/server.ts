/** Hits over HTTP, against what Fastify does by itself with the same bodies; and how free the server's loop stays. */
import { BenchProcess, type LoadOrder, type LoadReport } from './server/messages.ts';
import { benchmarkRepository, SMALL_INPUT } from './small-model.ts';
import { median, percentile, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const CONNECTIONS = 8;
const RESNET_SHAPE = [1, 3, 224, 224] as const;

export const server: Suite = {
  name: 'server',
  summary: '600 KB in, 4 KB out over HTTP: hits against a bare Fastify route; event-loop gaps with two models running',
  run,
};

interface Listening {
  readonly port: number;
}

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  await using repository = await benchmarkRepository();
  await using ours = new BenchProcess('serving.ts', [repository.folder]);
  await using bare = new BenchProcess('bare.ts');
  await using client = new BenchProcess('client.ts');
  await using second = new BenchProcess('client.ts');
  const [{ port: ourPort }, { port: barePort }] = await Promise.all([ours.heard<Listening>(), bare.heard<Listening>()]);
  const forMs = quick ? 500 : 3000;
  const resnet = orderFor('resnet50', ourPort, RESNET_SHAPE, { forMs });
  const plain = { ...resnet, port: barePort, headers: { 'content-type': 'application/octet-stream' } };
  const contestants = {
    hit: resnet,
    sha256: { ...plain, path: '/sha256' },
    plain: { ...plain, path: '/plain' },
  } as const;
  const names = ['hit', 'sha256', 'plain'] as const;
  const perS: Record<(typeof names)[number], number[]> = { hit: [], sha256: [], plain: [] };
  // The first request computes; a turn of each warms everything up.
  for (const name of names) await client.ask<LoadReport>({ ...contestants[name], forMs: quick ? 300 : 2000 });
  for (let round = 0; round < (quick ? 3 : 12); round++) {
    progress(`${CONNECTIONS} connections, round ${round + 1}`);
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const report = await client.ask<LoadReport>(contestants[name]);
      if (name === 'hit' && report.hits !== report.answers) throw new Error('Not every answer was a hit.');
      perS[name].push(report.answers / report.seconds);
    }
  }
  const watchMs = quick ? 3000 : 60_000;
  progress(`event-loop gaps over ${watchMs / 1000} s, two models running`);
  const small = orderFor('small', ourPort, [1, SMALL_INPUT], { forMs: watchMs, fresh: true, connections: 64 });
  const bypassing = { ...resnet, forMs: watchMs, headers: { ...resnet.headers, 'cache-control': 'no-store' } };
  const [gaps, runs, others] = await Promise.all([
    ours.ask<readonly number[]>({ watchMs }),
    client.ask<LoadReport>(bypassing),
    second.ask<LoadReport>(small),
  ]);
  return {
    hit_per_s: median(perS.hit),
    fastify_sha256_per_s: median(perS.sha256),
    fastify_per_s: median(perS.plain),
    hit_over_fastify_sha256: ratio(perS.hit, perS.sha256),
    hit_over_fastify: ratio(perS.hit, perS.plain),
    loop_gap_p999_ms: percentile(gaps, 0.999),
    loop_gap_max_ms: percentile(gaps, 1),
    loop_gap_resnet50_per_s: runs.answers / runs.seconds,
    loop_gap_small_per_s: others.answers / others.seconds,
  };
}

/** The median of what one was over the other in each round. */
function ratio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, round) => value / (under[round] ?? Number.NaN)));
}

function orderFor(model: string, port: number, shape: readonly number[], rest: Partial<LoadOrder>): LoadOrder {
  const floats = shape.reduce((product, size) => product * size, 1);
  const json = JSON.stringify({
    inputs: [{ name: 'input', shape, datatype: 'FP32', parameters: { binary_data_size: 4 * floats } }],
    parameters: { binary_data_output: true },
  });
  return {
    port,
    path: `/v2/models/${model}/infer`,
    headers: { 'inference-header-content-length': String(json.length) },
    json,
    floats,
    fresh: false,
    connections: CONNECTIONS,
    forMs: 1000,
    ...rest,
  };
}
