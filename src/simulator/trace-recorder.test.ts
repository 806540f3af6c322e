import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { describe, it } from 'node:test';

import { FakeClock } from '../base/clock.ts';
import { TempFolder } from '../../test/support/temp.ts';
import { readTrace } from './read-trace.ts';
import { TraceRecorder, type TraceRecorderOptions } from './trace-recorder.ts';

interface Line {
  readonly t: number;
  readonly p: string;
  readonly id: string | readonly string[];
  readonly b: number;
  readonly ms: number;
}

async function recording(
  folder: TempFolder,
  record: (recorder: TraceRecorder, clock: FakeClock) => void | Promise<void>,
  options: Partial<TraceRecorderOptions> = {},
): Promise<TraceRecorder> {
  const clock = new FakeClock();
  const recorder = await TraceRecorder.start({ folder: folder.at('traces'), clock, ...options });
  await record(recorder, clock);
  await recorder.close();
  return recorder;
}

const filesOf = (folder: TempFolder): readonly string[] =>
  readdirSync(folder.at('traces'))
    .toSorted()
    .map((name) => folder.at('traces', name));

const linesOf = (file: string): readonly Line[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Line);

describe('the recorder', () => {
  it('writes what was asked for, without keys', async () => {
    using folder = new TempFolder();
    await recording(folder, (recorder, clock) => {
      const results = recorder.listener('results');
      assert.ok(results.wants(1));
      results.used('secret-prompt', 1, 4096, 40.3, false);
      clock.advance(12.5);
      results.used('secret-prompt', 1, 4096, 40.3, true);
      recorder.listener('attention').usedChain(['root', 'leaf'], [1, 2], 100, 4, 1);
      recorder.listener('attention').usedChain([], [], 100, 4, 0);
    });
    const [file = '', ...others] = filesOf(folder);
    assert.deepEqual(others, []);
    const [first, second, chain, ...more] = linesOf(file);
    assert.deepEqual([first?.t, first?.p, first?.b, first?.ms, more.length], [0, 'results', 4096, 40.3, 0]);
    assert.deepEqual([second?.id, second?.t, chain?.id.length], [first?.id, 12.5, 2]);
    assert.ok(!readFileSync(file, 'utf8').includes('secret'));
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('gives one key other ids in every recording and partition', async () => {
    using folder = new TempFolder();
    const record = (recorder: TraceRecorder): void => {
      for (const name of ['results', 'models']) recorder.listener(name).used('key', 1, 1, 1, false);
    };
    await recording(folder, record);
    const [first = ''] = filesOf(folder);
    using other = new TempFolder();
    await recording(other, record);
    const ids = [first, ...filesOf(other)].flatMap((file) => linesOf(file).map(({ id }) => id));
    assert.equal(new Set(ids).size, 4);
  });

  it('keeps files and their number within bounds, and every one can be read', async () => {
    using folder = new TempFolder();
    await recording(
      folder,
      (recorder) => {
        for (let at = 0; at < 2000; at++) recorder.listener('results').used(`key ${at % 10}`, 1, 1, 1, false);
      },
      { maxFileBytes: 4096, maxFiles: 3 },
    );
    const files = filesOf(folder);
    assert.equal(files.length, 3);
    let requests = 0;
    for (const file of files) {
      assert.ok(statSync(file).size <= 4096);
      await readTrace(file, {}, (batch) => void (requests += batch.requests));
    }
    assert.ok(requests > 100 && requests < 2000);
    await recording(folder, () => undefined, { maxFiles: 2 });
    assert.equal(filesOf(folder).length, 2);
  });

  it('can be read up to where a crash cut it', async () => {
    using folder = new TempFolder();
    await recording(folder, (recorder) => recorder.listener('results').used('key', 1, 1, 1, false));
    const [file = ''] = filesOf(folder);
    appendFileSync(file, '{"t":5,"p":"resu');
    let requests = 0;
    await readTrace(file, {}, (batch) => void (requests += batch.requests));
    assert.equal(requests, 1);
    // A broken line that was finished is no crash.
    appendFileSync(file, '\n');
    await assert.rejects(
      readTrace(file, {}, () => undefined),
      { code: 'ERR_INFERKV_TRACE_INVALID' },
    );
  });

  it('drops and counts what comes faster than it can be written', async () => {
    using folder = new TempFolder();
    const recorder = await recording(folder, (each) => {
      const listener = each.listener('attention');
      const chain = Array.from({ length: 1000 }, (_, at) => `block ${at}`);
      for (let at = 0; at < 70; at++) listener.usedChain(chain, [], 1, 1, 0);
    });
    const { requests, dropped } = recorder.stats();
    assert.deepEqual([requests, dropped], [65, 5]);
    assert.equal(filesOf(folder).flatMap(linesOf).length, 65);
  });

  it('counts a chain that no file holds as dropped', async () => {
    using folder = new TempFolder();
    const chain = Array.from({ length: 400 }, (_, at) => `block ${at}`);
    const recorder = await recording(
      folder,
      (each) => {
        each.listener('attention').usedChain(chain, [], 1, 1, 0);
        each.listener('attention').usedChain(chain.slice(0, 10), [], 1, 1, 0);
      },
      { maxFileBytes: 4096 },
    );
    const { requests, dropped } = recorder.stats();
    assert.deepEqual([requests, dropped], [1, 1]);
    assert.equal(filesOf(folder).flatMap(linesOf).length, 1);
  });

  it('tells of what fails at the very end', async () => {
    using folder = new TempFolder();
    const failures: unknown[] = [];
    await recording(
      folder,
      (recorder) => {
        for (let at = 0; at < 200; at++) recorder.listener('results').used(`key ${at}`, 1, 1, 1, false);
        // The next file has nowhere to go.
        rmSync(folder.at('traces'), { recursive: true });
      },
      { maxFileBytes: 4096, onFailure: (error) => failures.push(error) },
    );
    assert.equal(failures.length, 1);
  });

  it('writes while it records, by the clock', async () => {
    using folder = new TempFolder();
    await recording(folder, async (recorder, clock) => {
      recorder.listener('results').used('key', 1, 1, 1, false);
      const before = recorder.stats().writtenBytes;
      clock.advance(200);
      while (recorder.stats().writtenBytes === before) await new Promise((resolve) => setImmediate(resolve));
    });
  });

  it('takes nothing more after it was closed', async () => {
    using folder = new TempFolder();
    const recorder = await recording(folder, () => undefined);
    const listener = recorder.listener('results');
    assert.ok(!listener.wants(1));
    listener.used('key', 1, 1, 1, false);
    assert.deepEqual(recorder.stats().requests, 0);
  });

  it('refuses limits that make no sense and folders it cannot write to', async () => {
    using folder = new TempFolder();
    folder.write('file', '');
    mkdirSync(folder.at('traces'));
    const refused: readonly Partial<TraceRecorderOptions>[] = [
      { maxFileBytes: 10 },
      { maxFiles: 0 },
      { maxFiles: Number.NaN },
      { folder: folder.at('file', 'in-it') },
    ];
    for (const options of refused) {
      await assert.rejects(
        recording(folder, () => undefined, options),
        { code: 'ERR_INFERKV_CONFIG_INVALID' },
      );
    }
  });
});
