/** Clients that lie, dawdle, leave or come in masses. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { computeScheduler } from '../../src/engines/compute-scheduler.ts';
import type { ServerOptions } from '../../src/server/index.ts';
import { identity, scaling, slow } from '../support/models.ts';
import { ProtocolError, type WireTensor } from '../support/protocol-client.ts';
import { serving, type Serving } from '../support/serving.ts';

const SIDE = 768;

const clients = join(import.meta.dirname, '..', 'fixtures', 'many-connections.ts');

function one(value: number): WireTensor {
  return { name: 'x', datatype: 'FP32', shape: [1], values: [value] };
}

/** An input of the slow model; its run takes some hundred milliseconds. */
function square(value: number): WireTensor {
  const values = Array.from({ length: SIDE * SIDE }, () => 0);
  values[0] = value;
  return { name: 'x', datatype: 'FP32', shape: [SIDE, SIDE], values };
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** All that a connection still says, up to its end. */
async function untilClosed(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  // Not by once(), which takes a reset for a failure.
  await new Promise((resolve) => socket.on('close', resolve));
  return text;
}

/** Settles when something has become true; looked at in every turn of the loop, for a bounded number of them. */
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let turn = 0; turn < 2000; turn++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`It never came about that ${what}.`);
}

async function metric(served: Serving, name: string): Promise<number> {
  const text = await (await fetch(`${served.address}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

/** Whether everything that requests held is free again, and the server still answers. */
async function assertUnharmed(served: Serving): Promise<void> {
  await until(async () => (await metric(served, 'inferkv_http_body_bytes')) === 0, 'no body is in memory');
  await until(async () => (await metric(served, 'inferkv_http_requests_under_way')) === 0, 'no request is under way');
  await until(() => served.cache.stats().results.activeLeases === 0, 'no result is leased');
  const { outputs } = await served.client.infer('scale', [one(21)]);
  assert.deepEqual(outputs[0]?.values, [42]);
}

function servingFor(server: ServerOptions = {}): Promise<Serving> {
  return serving(
    {
      'scale.onnx': scaling(2),
      'slow.onnx': slow(SIDE),
      'slower.onnx': slow(SIDE, 96),
      'same.onnx': identity('float32', ['N']),
    },
    { server },
  );
}

function head(model: string, length: number, more = ''): string {
  return `POST /v2/models/${model}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n${more}\r\n`;
}

describe('a server among bad clients', () => {
  it('outlives bodies that are cut short, at every length', async () => {
    await using served = await servingFor();
    const body = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] });
    for (let length = 0; length < body.length; length += 7) {
      const socket = await dial(served.port);
      socket.write(head('scale', body.length) + body.slice(0, length));
      if (length % 2 === 0) socket.end();
      else socket.resetAndDestroy();
      await untilClosed(socket);
    }
    await assertUnharmed(served);
  });

  it('lets nobody wait for a body that never comes', async () => {
    await using served = await servingFor({ requestTimeoutMs: 300 });
    const socket = await dial(served.port);
    socket.write(`${head('scale', 1000)}{"inputs"`);
    assert.match(await untilClosed(socket), /^HTTP\/1\.1 408/);
    await assertUnharmed(served);
  });

  it('reads bodies without a length, up to the same bound', async () => {
    await using served = await servingFor({ maxBodyBytes: 100_000 });
    const chunked = async (bytes: number): Promise<number> => {
      const json = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] });
      const socket = await dial(served.port);
      socket.write(
        'POST /v2/models/scale/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
      );
      for (let at = 0; at < bytes; at += 1000) socket.write(`3e8\r\n${json.padEnd(bytes).slice(at, at + 1000)}\r\n`);
      socket.write('0\r\n\r\n');
      return Number((await untilClosed(socket)).slice(9, 12));
    };
    assert.equal(await chunked(1000), 200);
    assert.equal(await chunked(99_000), 200);
    assert.equal(await chunked(300_000), 413);
    await assertUnharmed(served);
  });

  it('refuses what is too large before it is sent, and what is too much together', async () => {
    await using served = await servingFor({ maxBodyBytes: 1e6, maxBufferedBytes: 3e6 });
    const large = await dial(served.port);
    large.write(head('scale', 1_000_001, 'Connection: close\r\n'));
    assert.match(await untilClosed(large), /^HTTP\/1\.1 413[\s\S]*ERR_INFERKV_BODY_TOO_LARGE/);
    const holding = [await dial(served.port), await dial(served.port)];
    for (const socket of holding) socket.write(`${head('scale', 900_000)}{`);
    await until(async () => (await metric(served, 'inferkv_http_body_bytes')) > 2e6, 'two bodies are held');
    const third = await dial(served.port);
    third.write(head('scale', 999_000, 'Connection: close\r\n'));
    const answer = await untilClosed(third);
    assert.match(answer, /^HTTP\/1\.1 503[\s\S]*ERR_INFERKV_OVERLOADED/);
    assert.match(answer, /\r\nretry-after: 1\r\n/i);
    for (const socket of holding) socket.destroy();
    await assertUnharmed(served);
  });

  it('lets go of everything when clients leave in the middle', async () => {
    await using served = await servingFor();
    await served.cache.model('slow').load();
    // No run begins before all are there: on a busy machine the first would have its answer before the last has sent.
    await computeScheduler.acquire(computeScheduler.cores);
    const body = Buffer.alloc(4 * SIDE * SIDE);
    const json = JSON.stringify({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [SIDE, SIDE], parameters: { binary_data_size: body.length } }],
    });
    const leaving = await Promise.all(Array.from({ length: 10 }, () => dial(served.port)));
    for (const [at, socket] of leaving.entries()) {
      body.writeFloatLE(at, 0);
      socket.write(head('slow', json.length + body.length, `Inference-Header-Content-Length: ${json.length}\r\n`));
      socket.write(json);
      socket.write(Uint8Array.from(body));
    }
    await until(async () => (await metric(served, 'inferkv_http_requests_under_way')) === 10, 'all are under way');
    for (const socket of leaving) socket.destroy();
    await until(async () => (await metric(served, 'inferkv_http_requests_under_way')) === 0, 'all have left');
    computeScheduler.release(computeScheduler.cores);
    await assertUnharmed(served);
    // Nobody waited any more for them, so only what was asked for since ran.
    assert.equal(served.cache.stats().results.insertions, 1);
  });

  it('answers by what was sent, though the one who sent it first has left and his memory is used again', async () => {
    await using served = await servingFor();
    const json = JSON.stringify({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [SIDE, SIDE], parameters: { binary_data_size: 4 * SIDE * SIDE } }],
    });
    const more = `Inference-Header-Content-Length: ${json.length}\r\nConnection: close\r\n`;
    const ask = async (value: number): Promise<Socket> => {
      const socket = await dial(served.port);
      socket.write(head('slow', json.length + 4 * SIDE * SIDE, more) + json);
      socket.write(new Uint8Array(Float32Array.from(square(value).values, Number).buffer));
      return socket;
    };
    // Cold, then with the model loaded, where nothing but the staged input stands between a body and a run.
    for (const [kept, other] of [
      [1.25, 2],
      [1.5, 3],
    ] as const) {
      const { joined } = served.cache.stats().results;
      const [leaving, staying] = [await ask(kept), await ask(kept)];
      await until(() => served.cache.stats().results.joined > joined, 'the second has joined the first');
      leaving.destroy();
      const another = await ask(other);
      // The seventeenth power of the one element that is not zero.
      assert.match(await untilClosed(staying), new RegExp(`"data":\\[${Math.fround(kept ** 17)}\\]`));
      assert.match(await untilClosed(another), new RegExp(`"data":\\[${Math.fround(other ** 17)}\\]`));
    }
    await assertUnharmed(served);
  });

  it('lets go of what was asked on one connection in a row, when that ends', async () => {
    await using served = await servingFor();
    const body = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] });
    const request = head('scale', body.length) + body;
    await served.client.infer('scale', [one(1)]);
    const socket = await dial(served.port);
    const first = JSON.stringify({ inputs: [{ ...square(3), values: undefined, data: square(3).values }] });
    socket.write(head('slower', first.length) + first + request.repeat(20));
    await until(async () => (await metric(served, 'inferkv_http_requests_under_way')) > 1, 'several are under way');
    socket.destroy();
    await assertUnharmed(served);
  });

  it('does not let a client that never reads hold a result', async () => {
    await using served = await servingFor({ responseTimeoutMs: 200 });
    const elements = 4_000_000;
    const json = JSON.stringify({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [elements], parameters: { binary_data_size: 4 * elements } }],
      parameters: { binary_data_output: true },
    });
    const socket = await dial(served.port);
    socket.pause();
    socket.write(
      head('same', json.length + 4 * elements, `Inference-Header-Content-Length: ${json.length}\r\n`) + json,
    );
    socket.write(new Uint8Array(4 * elements));
    await until(() => served.cache.stats().results.activeLeases === 1, 'the result is leased to the response');
    await assertUnharmed(served);
    socket.destroy();
  });

  it('holds a result as long as it is being sent, whatever happens to its entry', async () => {
    await using served = await serving(
      { 'scale.onnx': scaling(2), 'same.onnx': identity('float32', ['N']) },
      { cache: { debug: true } },
    );
    const elements = 2_000_000;
    const values = Float32Array.from({ length: elements }, (_, at) => at % 1000);
    const json = JSON.stringify({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [elements], parameters: { binary_data_size: 4 * elements } }],
      parameters: { binary_data_output: true },
    });
    const socket = await dial(served.port);
    socket.pause();
    const more = `Inference-Header-Content-Length: ${json.length}\r\nConnection: close\r\n`;
    socket.write(head('same', json.length + 4 * elements, more) + json);
    socket.write(new Uint8Array(values.buffer));
    await until(() => served.cache.stats().results.activeLeases === 1, 'the result is leased to the response');
    // With debug on, freed results are overwritten at once: were this one free, garbage would arrive.
    await served.client.post('v2/repository/models/same/unload');
    served.folder.write('same.onnx', scaling(7));
    await served.client.post('v2/repository/models/same/load');
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk)).resume();
    await once(socket, 'close');
    const answer = Buffer.concat(chunks);
    const sent = Uint8Array.from(answer.subarray(answer.length - 4 * elements));
    assert.deepEqual(new Float32Array(sent.buffer), values);
    await assertUnharmed(served);
  });

  it('answers what is too much with 503, and a tenant that has too much with 429', async () => {
    await using served = await servingFor({ maxConcurrent: 4 });
    await served.cache.model('slow').load();
    const asked = Array.from({ length: 12 }, (_, at) =>
      served.client.infer('slow', [square(at)], { binaryInputs: true }).then(
        () => 200,
        (error: unknown) =>
          error instanceof ProtocolError ? [error.status, error.headers.get('retry-after')].join(' ') : error,
      ),
    );
    const answers = await Promise.all(asked);
    assert.ok(answers.includes('503 1'), String(answers));
    assert.ok(answers.filter((each) => each === 200).length >= 4, String(answers));
    assert.equal(answers.filter((each) => each === 200).length + answers.filter((each) => each === '503 1').length, 12);
    await assertUnharmed(served);
    await using strict = await servingFor({ maxConcurrentPerTenant: 1 });
    await strict.cache.model('slow').load();
    const both = await Promise.allSettled(
      [1, 2].map((at) => strict.client.infer('slow', [square(at)], { binaryInputs: true })),
    );
    const refusals = both.flatMap((each) =>
      each.status === 'rejected' ? [(each.reason as ProtocolError).status] : [],
    );
    assert.deepEqual(refusals, [429]);
    await assertUnharmed(strict);
  });

  it('finishes what it accepted when it shuts down, and takes nothing new', async () => {
    await using served = await servingFor();
    await served.cache.model('slower').load();
    const idle = await dial(served.port);
    const asked = served.client.infer('slower', [square(1)], { binaryInputs: true });
    await until(
      async () => (await metric(served, 'inferkv_http_requests_under_way')) === 1,
      'the request is under way',
    );
    const closing = served.server.close();
    const { outputs } = await asked;
    assert.deepEqual(outputs[0]?.shape, []);
    await closing;
    await assert.rejects(fetch(`${served.address}/v2/health/live`));
    idle.destroy();
  });

  it('does not wait for ever for clients that do not end', async () => {
    await using served = await servingFor({ shutdownTimeoutMs: 200 });
    const socket = await dial(served.port);
    socket.write(`${head('scale', 1000)}{"inputs"`);
    await until(
      async () => (await metric(served, 'inferkv_http_requests_under_way')) === 1,
      'the request is under way',
    );
    await served.server.close();
    socket.destroy();
  });

  it('holds 10,000 connections, and answers on them', { timeout: 120_000 }, async (context) => {
    await using served = await servingFor();
    await served.cache.model('scale').load();
    const body = JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [4] }] });
    const child = fork(clients, [String(served.port), '10000', head('scale', body.length) + body]);
    const [seen] = (await once(child, 'message')) as [{ connections: number; answers?: string[]; fault?: string }];
    if (seen.fault === 'EMFILE') context.skip('this system allows a process fewer than 10,000 open files (ulimit -n)');
    else {
      assert.deepEqual([seen.connections, seen.fault, seen.answers?.length], [10_000, undefined, 100]);
      for (const answer of seen.answers ?? []) assert.match(answer, /^HTTP\/1\.1 200[\s\S]*"data":\[8\]/);
    }
    child.send('enough');
    await once(child, 'exit');
    await assertUnharmed(served);
  });

  it('turns away what a web page of somebody else sends through the browser', async () => {
    await using served = await servingFor();
    const ask = async (headers: string): Promise<string> => {
      const socket = await dial(served.port);
      socket.write(
        `POST /v2/repository/models/scale/unload HTTP/1.1\r\n${headers}Content-Length: 0\r\nConnection: close\r\n\r\n`,
      );
      return (await untilClosed(socket)).slice(9, 12);
    };
    assert.equal(await ask(`Host: localhost:${served.port}\r\nOrigin: https://evil.example\r\n`), '403');
    assert.equal(await ask('Host: evil.example\r\n'), '403');
    assert.equal(await ask(`Host: localhost:${served.port}\r\nOrigin: http://localhost:${served.port}\r\n`), '200');
  });

  it('goes on after bytes that are no HTTP', async () => {
    await using served = await servingFor();
    for (const bytes of [
      '\0\0\0\0\r\n\r\n',
      'GET\r\n\r\n',
      'POST / HTTP/9.9\r\n\r\n',
      `GET /${'a'.repeat(100_000)} HTTP/1.1\r\n\r\n`,
    ]) {
      const socket = await dial(served.port);
      socket.end(bytes);
      assert.match(await untilClosed(socket), /^HTTP\/1\.1 4/);
    }
    await assertUnharmed(served);
  });
});
