import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import { issueKey, writeKeys } from '../../src/server/api-keys.ts';
import { scaling } from '../support/models.ts';
import { serving, type Serving } from '../support/serving.ts';
import { TempFolder } from '../support/temp.ts';

const cli = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');
const run = promisify(execFile);

interface Reply {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

describe('looking into the cache of a server', () => {
  const now = new Date();
  const admin = issueKey({ tenant: 'operators', role: 'admin' }, now);
  const user = issueKey({ tenant: 'acme', role: 'infer' }, now);
  let folder: TempFolder;
  let served: Serving;

  before(async () => {
    folder = new TempFolder();
    const keysFile = folder.at('keys.json');
    writeKeys(keysFile, [admin.stored, user.stored]);
    const cache = {
      whatIf: { results: { times: [0.5, 2], policies: ['lru', 'arc'] } },
      tiers: { disk: { store: 'disk', folder: folder.at('cache'), budgetBytes: '16MB' } },
    } as const;
    served = await serving({ 'scale.onnx': scaling(2) }, { server: { keysFile }, cache });
  });

  after(async () => {
    await served[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  const ask = async (method: string, path: string, key?: string, body?: string): Promise<Reply> => {
    const response = await fetch(new URL(path, served.address), {
      method,
      headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }) },
      ...(body !== undefined && { body }),
    });
    return { status: response.status, body: (await response.json()) as Reply['body'] };
  };

  const infer = async (value: number): Promise<string> => {
    const body = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [value] }] });
    const response = await fetch(new URL('/v2/models/scale/infer', served.address), {
      method: 'POST',
      headers: { authorization: `Bearer ${user.text}` },
      body,
    });
    await response.arrayBuffer();
    const status = response.headers.get('cache-status') ?? '';
    return /key="?(?<key>[0-9a-f]{64})/.exec(status)?.groups?.['key'] ?? status;
  };

  it('is for keys of the role admin', async () => {
    for (const [method, path] of [
      ['GET', '/v2/cache'],
      ['GET', '/v2/cache/keys/x'],
      ['GET', '/v2/cache/partitions/results'],
      ['GET', '/v2/cache/what-if'],
      ['POST', '/v2/cache/invalidate'],
    ] as const) {
      assert.equal((await ask(method, path)).status, 401, path);
      assert.equal((await ask(method, path, user.text)).status, 403, path);
    }
  });

  it('shows partitions and tiers, explains a key, and clears', async () => {
    const key = await infer(1);
    const { body } = await ask('GET', '/v2/cache', admin.text);
    assert.equal((body['tiers'] as { name: string }[])[0]?.name, 'disk');
    const explained = await ask('GET', `/v2/cache/keys/${key}`, admin.text);
    assert.deepEqual([explained.status, explained.body['state'], explained.body['tenant']], [200, 'present', 'acme']);
    const { body: breakdown } = await ask('GET', '/v2/cache/partitions/results?limit=5', admin.text);
    assert.equal((breakdown['tenants'] as { tenant: string }[])[0]?.tenant, 'acme');
    const cleared = await ask('POST', '/v2/cache/invalidate', admin.text, JSON.stringify({ tenant: 'acme' }));
    assert.deepEqual([cleared.status, cleared.body], [200, { invalidated: 1 }]);
    const gone = await ask('GET', `/v2/cache/keys/${key}`, admin.text);
    assert.deepEqual([gone.body['state'], gone.body['reason']], ['departed', 'invalidated']);
  });

  it('tells what other sizes and policies would give', async () => {
    await infer(7);
    await infer(7);
    const { body } = await ask('GET', '/v2/cache/what-if', admin.text);
    const { estimates } = body['results'] as { readonly estimates: readonly { readonly policy: string }[] };
    assert.deepEqual(
      estimates.map(({ policy }) => policy),
      ['lru', 'lru', 'arc', 'arc'],
    );
  });

  it('refuses what makes no sense', async () => {
    for (const body of [
      '',
      '{',
      '{}',
      '[]',
      '{"key":""}',
      '{"key":1}',
      '{"key":"a","tag":"b"}',
      `{"tag":"${'x'.repeat(600)}"}`,
    ]) {
      assert.equal((await ask('POST', '/v2/cache/invalidate', admin.text, body)).status, 400, body.slice(0, 30));
    }
    assert.equal((await ask('GET', '/v2/cache/partitions/nothing', admin.text)).status, 400);
    assert.equal((await ask('GET', '/v2/cache/partitions/results?limit=0', admin.text)).status, 400);
    assert.equal((await ask('GET', '/v2/cache/keys/never', admin.text)).body['state'], 'unknown');
  });

  it('is there from the command line, too', async () => {
    const key = await infer(9);
    const flags = ['--server', served.address, '--key', admin.text];
    const command = async (...args: string[]): Promise<string> =>
      (await run(process.execPath, [cli, ...args, ...flags])).stdout;
    assert.match(await command('stats'), /results +\d+/);
    assert.match(await command('explain', key), /state +present/);
    assert.match(await command('what-if'), /results +arc/);
    assert.match(await command('clear', '--model', 'scale'), /invalidated +[1-9]/);
    await assert.rejects(run(process.execPath, [cli, 'stats', '--server', served.address]), /API key/i);
    await assert.rejects(command('clear'), /Give one of/);
    await assert.rejects(run(process.execPath, [cli, 'stats', '--server', 'http://127.0.0.1:9']), /no server at/);
  });
});
