import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { policyNames } from '../../src/policies/registry.ts';
import { sharedTrace } from '../support/shared-traces.ts';
import { TempFolder } from '../support/temp.ts';
import { torchAbsent } from '../support/torchscript.ts';

const program = join(import.meta.dirname, '..', '..', 'benchmarks', 'run.ts');

describe('the benchmarks', () => {
  it('print one object and nothing else when asked for JSON', () => {
    using folder = new TempFolder();
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'resnet', '--quick', '--json'], {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: folder.path },
    });
    assert.equal(status, 0, stderr);
    const { suite, figures, ...rest } = JSON.parse(stdout) as { suite: string; figures: Record<string, number> };
    assert.deepEqual([suite, rest], ['resnet', {}]);
    for (const name of ['cold_ms', 'raw_ms', 'resident_ms', 'hit_ms', 'resident_over_raw', 'compute_over_hit']) {
      for (const engine of torchAbsent() === false ? ['onnx', 'torchscript'] : ['onnx']) {
        assert.ok(Number.isFinite(figures[`${engine}.${name}`]), name);
      }
    }
  });

  it('measure the server in processes of its own', () => {
    using folder = new TempFolder();
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'server', '--quick', '--json'], {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: folder.path },
    });
    assert.equal(status, 0, stderr);
    const { figures } = JSON.parse(stdout) as { figures: Record<string, number> };
    for (const name of ['hit_over_fastify_sha256', 'hit_over_fastify', 'loop_gap_p999_ms', 'loop_gap_small_per_s']) {
      assert.ok((figures[name] ?? 0) > 0, name);
    }
  });

  it('compare policies on traces where they are, and their times anywhere', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'policies', '--quick', '--json'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const { figures } = JSON.parse(stdout) as { figures: Record<string, number> };
    for (const name of policyNames) assert.ok((figures[`ns_a_reference.${name}`] ?? 0) > 0, name);
    for (const name of sharedTrace('mooncake').skip === false ? [...policyNames, 'belady'] : []) {
      for (const trace of ['conversation', 'synthetic']) assert.ok((figures[`${trace}.3000.${name}`] ?? 0) > 0, name);
    }
  });

  it('hold the what-if against full replays, and tell what it costs', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'whatif', '--quick', '--json'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const { figures } = JSON.parse(stdout) as { figures: Record<string, number> };
    assert.ok(Number.isFinite(figures['whatif_throughput_cost']));
    // Errors follow from seeds, so they are the same on every machine.
    if (sharedTrace('mooncake').skip === false) assert.ok((figures['whatif_error_p95'] ?? 100) <= 3);
  });

  it('measure partitions beside other caches, which hold the same', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'core', '--quick', '--json'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    const { figures } = JSON.parse(stdout) as { figures: Record<string, number> };
    for (const name of ['getset_over_lru_cache', 'get_over_lru_cache', 'getset_ttl_over_lru_cache_ttl']) {
      assert.ok((figures[name] ?? 0) > 0, name);
    }
    // Hit rates follow from the seed: the same keys lie in both.
    assert.equal(figures['hit_rate'], figures['lru_cache_hit_rate']);
    // What every entry is charged for covers what it takes, wherever the arrays stand between two doublings.
    assert.ok((figures['entry_overhead_max_bytes'] ?? Infinity) <= (figures['charged_overhead_bytes'] ?? 0));
  });

  it('say which there are when asked for another', () => {
    for (const args of [[], ['nothing'], ['resnet', 'concurrency']]) {
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' });
      assert.deepEqual([status, stdout], [2, '']);
      assert.match(stderr, /resnet[\s\S]*concurrency[\s\S]*server/);
    }
  });
});
