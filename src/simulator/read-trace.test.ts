import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import fc from 'fast-check';

import { isInferkvError, type ErrorCode } from '../base/errors.ts';
import { TempFolder } from '../../test/support/temp.ts';
import { formatNamed } from './formats.ts';
import { encodeHeader, encodeRequest, recordedId } from './formats/recorded.ts';
import { readTrace, type ReadOptions } from './read-trace.ts';

interface Read {
  readonly format: string;
  /** [time, [id, size, cost]...] a request. */
  readonly requests: readonly (readonly [number, ...(readonly number[])[]])[];
}

async function read(path: string, options: ReadOptions = {}): Promise<Read> {
  const requests: [number, ...(readonly number[])[]][] = [];
  const { name } = await readTrace(path, options, (batch) => {
    let from = 0;
    for (let request = 0; request < batch.requests; request++) {
      const to = batch.ends[request] ?? 0;
      const references = Array.from({ length: to - from }, (_, at) => {
        return [batch.ids[from + at] ?? 0, batch.sizes[from + at] ?? 0, batch.costs[from + at] ?? 0];
      });
      requests.push([batch.times[request] ?? 0, ...references]);
      from = to;
    }
  });
  return { format: name, requests };
}

async function refused(path: string, code: ErrorCode, says: RegExp, options: ReadOptions = {}): Promise<void> {
  await assert.rejects(
    read(path, options),
    (error) => isInferkvError(error, code) && says.test(error.message) && error.message.includes(path),
  );
}

const CASES: readonly (readonly [format: string, text: string, requests: Read['requests']])[] = [
  [
    'lirs',
    '7\n\n*\n  9 \r\n7',
    [
      [0, [7, -1, -1]],
      [0, [9, -1, -1]],
      [0, [7, -1, -1]],
    ],
  ],
  [
    'adapt_size',
    '1 0 68\n2.5 10 7454\n',
    [
      [1000, [0, 68, -1]],
      [2500, [10, 7454, -1]],
    ],
  ],
  [
    'libcachesim',
    '3,11,512\n4, 12 ,1024,x\n',
    [
      [3000, [11, 512, -1]],
      [4000, [12, 1024, -1]],
    ],
  ],
  ['libcachesim', '"obj_size","cost","obj_id","timestamp"\n10,2.5,7,1\n', [[1000, [7, 10, 2.5]]]],
  ['libcachesim', 'key,value\n7,1\n', [[0, [7, -1, -1]]]],
  [
    'mooncake',
    '{"timestamp": 5, "input_length": 900, "output_length": 3, "hash_ids": [0, 14]}\n{"timestamp": 9, "hash_ids": []}\n',
    [[5, [0, -1, -1], [14, -1, -1]]],
  ],
  [
    'inferkv',
    '{"inferkv-trace":1}\n{"t":1.5,"p":"results","id":"00000000000ab000","b":10,"ms":2,"new":1}\n{"t":2,"p":"attention","id":["0000000000100000","0000000000200000"]}\n',
    [
      [1.5, [0xab, 10, 2]],
      [2, [0x100, -1, -1], [0x200, -1, -1]],
    ],
  ],
];

describe('reading a trace', () => {
  for (const [format, text, requests] of CASES) {
    it(`recognises and reads ${format}: ${JSON.stringify(text.slice(0, 30))}`, async () => {
      using folder = new TempFolder();
      const path = folder.write('trace', text);
      const found = await read(path);
      assert.equal(found.format, format);
      assert.deepEqual(found.requests, requests);
      assert.deepEqual((await read(path, { format: formatNamed(format) })).requests, requests);
    });
  }

  it('reads numbers of four bytes', async () => {
    using folder = new TempFolder();
    const path = folder.write('trace', Buffer.from(Uint32Array.of(1, 10, 0xffff_fff0).buffer));
    assert.deepEqual(await read(path), {
      format: 'cache2k',
      requests: [
        [0, [1, -1, -1]],
        [0, [10, -1, -1]],
        [0, [0xffff_fff0, -1, -1]],
      ],
    });
    const cut = folder.write('cut', new Uint8Array(7));
    await refused(cut, 'ERR_INFERKV_TRACE_INVALID', /middle of a record \(3 of 4 bytes\)/);
  });

  it('decompresses by the name', async () => {
    using folder = new TempFolder();
    const text = '1 0 68\n'.repeat(100_000);
    const files = [folder.write('a.gz', gzipSync(text)), folder.write('a.zst', zstdCompressSync(text))];
    const xz = spawnSync('xz', ['--compress', '--stdout'], { input: text });
    if (xz.status === 0) files.push(folder.write('a.xz', xz.stdout));
    for (const file of files) {
      const { format, requests } = await read(file);
      assert.deepEqual([format, requests.length], ['adapt_size', 100_000], file);
    }
  });

  it('says what is wrong with a compressed file', async () => {
    using folder = new TempFolder();
    const whole = gzipSync('1 0 68\n'.repeat(100_000));
    await refused(
      folder.write('cut.gz', whole.subarray(0, -20)),
      'ERR_INFERKV_TRACE_INVALID',
      /cannot be decompressed/,
    );
    await refused(folder.write('not.zst', whole), 'ERR_INFERKV_TRACE_INVALID', /cannot be decompressed/);
    await refused(folder.at('nowhere.gz'), 'ERR_INFERKV_TRACE_MISSING', /ENOENT/);
    await refused(folder.at('nowhere.xz'), 'ERR_INFERKV_TRACE_MISSING', /ENOENT/);
    const { error } = spawnSync('xz', ['--version']);
    if (error === undefined) {
      await refused(folder.write('not.xz', whole), 'ERR_INFERKV_TRACE_INVALID', /cannot be decompressed/);
    }
  });

  it('says which file cannot be read', async () => {
    using folder = new TempFolder();
    await refused(folder.at('nowhere'), 'ERR_INFERKV_TRACE_MISSING', /cannot be read/);
    await refused(folder.path, 'ERR_INFERKV_TRACE_MISSING', /cannot be read/);
    await refused(folder.write('empty', ''), 'ERR_INFERKV_TRACE_INVALID', /empty/);
    await refused(folder.write('prose', 'Call me Ishmael.\n'), 'ERR_INFERKV_TRACE_INVALID', /none of the formats/);
  });

  it('says in which line something is wrong', async () => {
    const cases: readonly (readonly [format: string, text: string, says: RegExp])[] = [
      ['lirs', '1\n2 3\n', /:2: "2 3" is more than one id/],
      ['adapt_size', '1 2 3\n1 2\n', /:2: "1 2" is not a time/],
      ['adapt_size', '1 2 3\n\n1 2 -3\n', /:3: the size "-3" is no number/],
      ['adapt_size', '1 2 big\n', /:1: the size "big"/],
      ['libcachesim', '1,2,3\n1,2\n', /:2: "1,2" has too few columns/],
      ['libcachesim', '1,2,3\n1,,3\n', /:2: an id is missing/],
      ['libcachesim', 'time,size\n1,2\n', /:1: .* names no column "id"/],
      ['mooncake', '{"timestamp":1,"hash_ids":[1]}\n{"timestamp":1,"hash_ids":[1', /:2: .* is no JSON object/],
      ['mooncake', '{"timestamp":1,"hash_ids":[1.5]}\n', /:1: hash_ids holds "1.5"/],
      ['mooncake', '{"timestamp":1,"hash_ids":7}\n', /:1: hash_ids is no list/],
      ['mooncake', '{"timestamp":"x","hash_ids":[1]}\n', /:1: timestamp is no number/],
      ['mooncake', '[1]\n', /:1: .* is no JSON object/],
      ['inferkv', '{"inferkv-trace":2}\n', /:1: the first line says version "2"; this reads version 1/],
      ['inferkv', '{"t":1,"p":"x","id":"0000000000000000"}\n', /:1: the first line says version missing/],
      ['inferkv', '{"inferkv-trace":1}\n{"t":1,"p":"x","id":"12"}\n', /:2: id holds .* not 16 hex digits/],
      ['inferkv', '{"inferkv-trace":1}\n{"t":1,"p":"x","id":"0000000000000000","b":-1}\n', /:2: b is "-1"/],
      ['inferkv', '{"inferkv-trace":1}\n{"t":1,"id":"0000000000000000"}\n', /:2: p \(the partition\) is no text/],
    ];
    using folder = new TempFolder();
    for (const [at, [format, text, says]] of cases.entries()) {
      const path = folder.write(`trace-${at}`, text);
      await refused(path, 'ERR_INFERKV_TRACE_INVALID', says, { format: formatNamed(format) });
    }
  });

  it('gives up on a line without end, long before memory does', async () => {
    using folder = new TempFolder();
    const path = folder.write('endless', `1\n${'7'.repeat(40_000_000)}`);
    await refused(path, 'ERR_INFERKV_TRACE_INVALID', /:2: the line has no end within 17 MB/);
  });

  it('reads the same whatever the lines, however they fall into pieces', async () => {
    using folder = new TempFolder();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(1e9), { minLength: 1, maxLength: 50 }), fc.boolean(), async (ids, crlf) => {
        // Padding of blanks makes lines longer than the pieces that files are read in.
        const text = ids.map((id, at) => `${' '.repeat(at % 7 === 0 ? 70_000 : 1)}${id}`).join(crlf ? '\r\n' : '\n');
        const { requests } = await read(folder.write('trace', text), { format: formatNamed('lirs') });
        assert.deepEqual(
          requests.map(([, reference]) => reference?.[0]),
          ids,
        );
      }),
      { numRuns: 30 },
    );
  });

  it('refuses garbage or reads it, and never fails otherwise', async () => {
    using folder = new TempFolder();
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom('lirs', 'adapt_size', 'libcachesim', 'mooncake', 'inferkv', 'cache2k'),
        async (bytes, format) => {
          const path = folder.write('garbage', bytes);
          await read(path, { format: formatNamed(format) }).catch((error: unknown) => {
            assert.ok(isInferkvError(error, 'ERR_INFERKV_TRACE_INVALID'), String(error));
          });
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("inferkv's own format", () => {
  const secret = new Uint8Array(32).fill(7);
  const recordedIds = fc.array(fc.string(), { minLength: 1, maxLength: 5 });

  it('reads what it writes', async () => {
    using folder = new TempFolder();
    const requests = fc.array(
      fc.record({
        timeMs: fc.nat(1e9),
        partition: fc.constantFrom('results', 'attention'),
        keys: recordedIds,
        sizeBytes: fc.option(fc.nat(1e9), { nil: undefined }),
        costMs: fc.option(fc.nat(1e6), { nil: undefined }),
      }),
      { minLength: 1, maxLength: 20 },
    );
    await fc.assert(
      fc.asyncProperty(requests, async (sequence) => {
        const lines = sequence.map(({ partition, keys, ...rest }) =>
          encodeRequest({ ...rest, partition, ids: keys.map((key) => recordedId(secret, partition, key)) }),
        );
        const path = folder.write('trace', [encodeHeader(), ...lines].join(''));
        const { format, requests: found } = await read(path);
        assert.equal(format, 'inferkv');
        const expected = sequence.map(({ timeMs, partition, keys, sizeBytes = -1, costMs = -1 }) => [
          timeMs,
          ...keys.map((key) => {
            return [Number.parseInt(recordedId(secret, partition, key).slice(0, 13), 16), sizeBytes, costMs];
          }),
        ]);
        assert.deepEqual(found, expected);
      }),
      { numRuns: 50 },
    );
  });

  it('reads one partition of many', async () => {
    using folder = new TempFolder();
    const line = (partition: string): string =>
      encodeRequest({ timeMs: 0, partition, ids: [recordedId(secret, partition, 'key')] });
    const path = folder.write('trace', `${encodeHeader()}${line('results')}${line('models')}${line('results')}`);
    assert.equal((await read(path, { partition: 'results' })).requests.length, 2);
    assert.equal((await read(path, { partition: 'models' })).requests.length, 1);
  });

  it('keeps keys secret and partitions apart', () => {
    assert.match(recordedId(secret, 'results', 'key'), /^[0-9a-f]{16}$/);
    const different = new Set([
      recordedId(secret, 'results', 'key'),
      recordedId(secret, 'models', 'key'),
      recordedId(secret, 'resultsk', 'ey'),
      recordedId(new Uint8Array(32).fill(8), 'results', 'key'),
    ]);
    assert.equal(different.size, 4);
  });
});
