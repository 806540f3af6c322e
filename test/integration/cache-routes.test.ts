import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { listenersTogether, type UseListener } from '../../src/telemetry/use-listener.ts';
import { issueKey, writeKeys } from '../../src/server/api-keys.ts';
import { scaling } from '../support/models.ts';
import { serving, type Serving } from '../support/serving.ts';
import { TempFolder } from '../support/temp.ts';

const program = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');
const FILES = { 'scale/1/model.onnx': scaling(2) };
const WHAT_IF = { sizes: ['100%', '200%', 1_000_000], policies: ['lru', 'arc'] };

async function infer({ address }: Serving, value: number): Promise<string> {
  const answer = await fetch(`${address}/v2/models/scale/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [3], data: [value, 0, 0] }] }),
  });
  assert.equal(answer.status, 200, await answer.text());
  return /key="(?<key>[^"]+)"/.exec(answer.headers.get('cache-status') ?? '')?.groups?.['key'] ?? '';
}

type Json = Readonly<Record<string, unknown>>;

async function asked({ address }: Serving, path: string, init?: RequestInit): Promise<{ status: number; body: Json }> {
  const answer = await fetch(`${address}${path}`, init);
  return { status: answer.status, body: (await answer.json()) as Json };
}

const invalidated = async (served: Serving, body: unknown): Promise<unknown> => {
  const answer = await asked(served, '/v1/cache/invalidate', { method: 'POST', body: JSON.stringify(body) });
  return answer.status === 200 ? answer.body['invalidated'] : answer.status;
};

async function cli(
  served: Serving,
  args: readonly string[],
  key?: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { INFERKV_API_KEY: _key, ...rest } = process.env;
  const env = { ...rest, INFERKV_URL: served.address, ...(key !== undefined && { INFERKV_API_KEY: key }) };
  const child = spawn(process.execPath, [program, ...args], { env });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (said.stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (said.stderr += String(chunk)));
  const [code] = (await once(child, 'close')) as [number];
  return { code, ...said };
}

describe('what operators ask of a cache', () => {
  it('explains, counts, invalidates and imagines, beside another listener', async () => {
    const heard: boolean[] = [];
    const recorder: UseListener = {
      wants: () => true,
      used: (_key, _identity, _size, _cost, isHit) => void heard.push(isHit),
      usedChain: () => undefined,
    };
    const listen = (partition: string): UseListener | undefined => (partition === 'results' ? recorder : undefined);
    await using served = await serving(FILES, { cache: { whatIf: WHAT_IF, listen } });
    const key = await infer(served, 1);
    for (const value of [1, 2, 1]) await infer(served, value);
    assert.deepEqual(heard, [false, true, false, true]);

    const explained = await asked(served, `/v1/cache/explain/${key}`);
    assert.deepEqual(
      [explained.body['state'], explained.body['partition'], explained.body['uses']],
      ['present', 'results', 2],
    );
    const { body: stats } = await asked(served, '/v1/cache/stats?partition=results&limit=5');
    assert.equal((stats['partitions'] as Record<string, Json>)['results']?.['entries'], 2);
    assert.ok((stats['tags'] as Json[]).length > 0);
    assert.equal(Object.keys((await asked(served, '/v1/cache/stats')).body['partitions'] as Json).length, 5);

    const { body: whatIf } = await asked(served, '/v1/cache/what-if');
    const [report] = whatIf['partitions'] as { estimates: Json[]; policy: string; dropped: number }[];
    assert.equal(report?.estimates.length, 6);
    assert.deepEqual([report?.policy, report?.dropped], ['lru', 0]);
    assert.ok(report?.estimates.every(({ rate }) => rate === 1));

    assert.equal(await invalidated(served, { key }), 1);
    assert.equal((await asked(served, `/v1/cache/explain/${key}`)).body['reason'], 'deleted');
    assert.equal(await invalidated(served, { model: 'scale' }), 1);
    assert.equal(await invalidated(served, { tag: 'nobody' }), 0);
    assert.equal(await invalidated(served, { tenant: 'nobody' }), 0);
  });

  it('refuses what it does not understand', async () => {
    await using served = await serving(FILES);
    for (const body of [{}, { key: 'a b' }, { key: '' }, { key: 'a', tag: 'b' }, { tag: 1 }, { model: 'a\n' }, []]) {
      assert.equal(await invalidated(served, body), 400, JSON.stringify(body));
    }
    for (const path of [
      'explain/%20',
      `explain/${'a'.repeat(257)}`,
      'stats?partition=x',
      'stats?limit=0',
      'stats?a=1',
    ]) {
      const { status } = await asked(served, `/v1/cache/${path}`);
      assert.ok(status === 400 || status === 404 || status === 414, `${path}: ${status}`);
    }
    const { status, body } = await asked(served, '/v1/cache/what-if');
    assert.deepEqual([status, body['code']], [404, 'ERR_INFERKV_WHAT_IF_OFF']);
    await assert.rejects(serving({}, { cache: { whatIf: { sizes: ['much'] } } }), {
      code: 'ERR_INFERKV_CONFIG_INVALID',
    });
    await assert.rejects(serving({}, { cache: { whatIf: { policies: ['mru'] } } }), {
      code: 'ERR_INFERKV_POLICY_UNKNOWN',
    });
  });

  it('answers only who may, and the command line shows it', async () => {
    using folder = new TempFolder();
    const keysFile = folder.at('keys.json');
    const now = new Date();
    const [admin, tenant] = [
      issueKey({ tenant: 'o', role: 'admin' }, now),
      issueKey({ tenant: 't', role: 'infer' }, now),
    ];
    writeKeys(keysFile, [admin.stored, tenant.stored]);
    await using served = await serving(FILES, { server: { keysFile }, cache: { whatIf: WHAT_IF, seed: 1 } });
    for (const path of ['explain/a', 'stats', 'what-if']) {
      assert.equal((await asked(served, `/v1/cache/${path}`)).status, 401, path);
      const headers = { authorization: `Bearer ${tenant.text}` };
      assert.equal((await asked(served, `/v1/cache/${path}`, { headers })).status, 403, path);
    }
    assert.equal(await invalidated(served, { key: 'a' }), 401);

    const [stats, whatIf, explain, json, refused, forbidden] = await Promise.all([
      cli(served, ['stats', '--partition', 'results'], admin.text),
      cli(served, ['what-if'], admin.text),
      cli(served, ['explain', 'a'], admin.text),
      cli(served, ['explain', 'a', '--json'], admin.text),
      cli(served, ['stats'], undefined),
      cli(served, ['stats'], tenant.text),
    ]);
    assert.match(stats.stdout, /partition +entries[^]*results +0/);
    assert.match(whatIf.stdout, /results \(lru[^]*arc/);
    assert.match(explain.stdout, /state +unknown/);
    assert.equal((JSON.parse(json.stdout) as Json)['state'], 'unknown');
    assert.deepEqual([refused.code, forbidden.code], [4, 4]);
    const [nobody, noAddress] = await Promise.all([
      cli(served, ['stats', '--url', 'http://127.0.0.1:1']),
      cli(served, ['stats', '--url', 'nowhere']),
    ]);
    assert.deepEqual([nobody.code, noAddress.code], [5, 2]);
    assert.match(nobody.stderr, /There is no answer from/);
  });
});

describe('listeners together', () => {
  it('tells each what it wants', () => {
    const heard: string[] = [];
    const listener = (name: string, wants: boolean): UseListener => ({
      wants: () => wants,
      used: () => void heard.push(name),
      usedChain: () => void heard.push(`${name} chain`),
    });
    const [a, b] = [listener('a', true), listener('b', false)];
    assert.equal(listenersTogether([undefined, a]), a);
    assert.equal(listenersTogether([]), undefined);
    const both = listenersTogether([a, b]);
    if (both?.wants(1) === true) both.used('key', 1, 1, 1, true);
    both?.usedChain([], [], 1, 1, 0);
    assert.deepEqual(heard, ['a', 'a chain', 'b chain']);
  });
});
