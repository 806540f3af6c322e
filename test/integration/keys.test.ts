import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { issueKey, writeKeys, type IssuedKey } from '../../src/server/api-keys.ts';
import { scaling } from '../support/models.ts';
import { ProtocolClient, ProtocolError, type WireTensor } from '../support/protocol-client.ts';
import { serving, type Serving } from '../support/serving.ts';
import { TempFolder } from '../support/temp.ts';

const INPUT: readonly WireTensor[] = [{ name: 'x', datatype: 'FP32', shape: [1], values: [7] }];

describe('a server with keys', () => {
  const now = new Date();
  const keys = {
    acme: issueKey({ tenant: 'acme', role: 'infer' }, now),
    acmeToo: issueKey({ tenant: 'acme', role: 'infer' }, now),
    other: issueKey({ tenant: 'other', role: 'infer' }, now),
    admin: issueKey({ tenant: 'operators', role: 'admin' }, now),
  } satisfies Record<string, IssuedKey>;
  let folder: TempFolder;
  let served: Serving;
  const by = (key?: IssuedKey): ProtocolClient => new ProtocolClient(served.address, key?.text);
  const statusOf = (work: Promise<unknown>): Promise<number | string> =>
    work.then(
      () => 200,
      (error: unknown) => (error instanceof ProtocolError ? error.status : String(error)),
    );

  before(async () => {
    folder = new TempFolder();
    const keysFile = folder.at('keys.json');
    writeKeys(
      keysFile,
      Object.values(keys).map(({ stored }) => stored),
    );
    served = await serving({ 'scale.onnx': scaling(2) }, { server: { keysFile, host: '0.0.0.0' } });
    // It listens everywhere, and is reached by loopback.
    served = { ...served, address: `http://127.0.0.1:${served.port}` };
  });

  after(async () => {
    await served[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  it('lets nobody in without one, but to ask whether it lives', async () => {
    for (const client of [
      by(),
      new ProtocolClient(served.address, 'wrong'),
      new ProtocolClient(served.address, `${keys.acme.text}x`),
    ]) {
      assert.equal(await statusOf(client.infer('scale', INPUT)), 401);
      assert.equal(await statusOf(client.get('v2/models/scale')), 401);
      assert.equal(await statusOf(client.post('v2/repository/index')), 401);
      assert.equal(await statusOf(client.get('v2/health/live')), 200);
      assert.equal(await statusOf(client.get('v2/health/ready')), 200);
      assert.equal(await statusOf(client.get('v2/nothing')), 401);
    }
    const refusal = await by()
      .infer('scale', INPUT)
      .catch((error: unknown) => error);
    assert.ok(refusal instanceof ProtocolError);
    assert.match(refusal.headers.get('www-authenticate') ?? '', /^Bearer/);
  });

  it('keeps what only operators may from everybody else', async () => {
    const metrics = (key: IssuedKey): Promise<number> =>
      fetch(`${served.address}/metrics`, { headers: { authorization: `Bearer ${key.text}` } }).then(
        ({ status }) => status,
      );
    assert.equal(await statusOf(by(keys.acme).post('v2/repository/models/scale/unload')), 403);
    assert.equal(await statusOf(by(keys.acme).post('v2/repository/models/scale/load')), 403);
    assert.deepEqual([await metrics(keys.acme), await metrics(keys.admin)], [403, 200]);
    assert.equal(await statusOf(by(keys.admin).post('v2/repository/models/scale/load')), 200);
  });

  it('shares results between keys of one tenant, and with nobody else', async () => {
    const status = async (key: IssuedKey): Promise<string> =>
      (await by(key).infer('scale', INPUT)).headers.get('cache-status') ?? '';
    assert.match(await status(keys.acme), /fwd=miss/);
    assert.match(await status(keys.acme), /; hit;/);
    assert.match(await status(keys.acmeToo), /; hit;/);
    assert.match(await status(keys.other), /fwd=miss/);
  });

  it('tells clients nothing of its folders', async () => {
    served.folder.write('broken.onnx', 'no model');
    const errors = await Promise.all(
      ['nowhere', 'broken'].map((name) =>
        by(keys.acme)
          .infer(name, INPUT)
          .catch((error: unknown) => error),
      ),
    );
    for (const error of errors) {
      assert.ok(error instanceof ProtocolError && !error.message.includes(served.folder.path), String(error));
      assert.ok(!error.message.includes('scale'), error.message);
    }
    const index = await by(keys.acme).post<readonly { readonly reason: string }[]>('v2/repository/index');
    assert.ok(index.every(({ reason }) => !reason.includes(served.folder.path)));
  });
});
