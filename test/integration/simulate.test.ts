import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { policyNames } from '../../src/policies/registry.ts';
import { sharedTrace } from '../support/shared-traces.ts';
import { TempFolder } from '../support/temp.ts';

const program = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');

interface Row {
  readonly policy: string;
  readonly budget: number;
  readonly hitRate: number;
  readonly byteHitRate?: number;
  readonly costSaved?: number;
}

interface Trace {
  readonly files: readonly string[];
  readonly format: string;
  readonly requests: number;
  readonly references: number;
  readonly bound: string;
  readonly rows: readonly Row[];
}

describe('inferkv simulate', () => {
  let folder: TempFolder;
  const simulate = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [program, 'simulate', ...args], { encoding: 'utf8', cwd: folder.path });
  const json = (...args: string[]): readonly Trace[] => {
    const { status, stdout, stderr } = simulate(...args, '--json');
    assert.deepEqual([status, stderr], [0, '']);
    return (JSON.parse(stdout) as { traces: Trace[] }).traces;
  };

  before(() => {
    folder = new TempFolder();
    // Three entries in turn, which LRU with two places never finds.
    folder.write('loop', '1\n2\n3\n'.repeat(100));
    folder.write('sized.csv', `time,id,size,cost\n${'1,a,100,5\n2,b,300,1\n3,c,300,1\n'.repeat(50)}`);
    folder.write('chain.jsonl', '{"timestamp":0,"hash_ids":[1,2,3]}\n'.repeat(4));
  });

  after(() => folder[Symbol.dispose]());

  it('prints a table with every policy and the bound', () => {
    const { status, stdout, stderr } = simulate('loop', '--blocks', '2,3');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^loop \(lirs\): 300 requests\n/);
    for (const name of policyNames) assert.match(stdout, new RegExp(`\\n {2}${name} +[\\d.]+ +99\\.00\\n`));
    assert.match(stdout, /\n {2}lru +0\.00 +99\.00\n/);
    assert.match(stdout, /\n {2}belady +66\.00 +99\.00\n/);
    assert.match(stdout, /references a second/);
  });

  it('ends well where nobody reads what it prints any more', async () => {
    const child = spawn(process.execPath, [program, 'simulate', 'loop', '--blocks', '2', '--csv', 'unread.csv'], {
      cwd: folder.path,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.destroy();
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
    const [status] = (await once(child, 'close')) as [number | null];
    assert.deepEqual([status, said], [0, '']);
    assert.match(readFileSync(folder.at('unread.csv'), 'utf8'), /belady/);
  });

  it('knows a LIRS trace that begins with a mark', () => {
    folder.write('marked', '* first phase\n1\n2\n*\n1\n');
    const [trace] = json('marked', '--blocks', '2', '--policies', 'lru');
    assert.deepEqual([trace?.format, trace?.requests], ['lirs', 3]);
  });

  it('tells hits by requests, bytes and cost, where the trace does', () => {
    const [trace] = json('sized.csv', '--sizes', '450B', '--policies', 'lru,gdsf');
    assert.deepEqual([trace?.format, trace?.requests, trace?.bound], ['libcachesim', 150, 'relaxed']);
    const gdsf = trace?.rows.find(({ policy }) => policy === 'gdsf');
    // It keeps a, which is dearer for its size, while b and c drive each other out.
    assert.deepEqual([gdsf?.hitRate, gdsf?.byteHitRate, gdsf?.costSaved], [49 / 150, 4900 / 35_000, 245 / 350]);
    const [chained] = json('chain.jsonl', '--blocks', '10', '--policies', 'lru');
    assert.deepEqual([chained?.requests, chained?.references], [4, 12]);
    assert.deepEqual(Object.keys(chained?.rows[0] ?? {}), ['policy', 'budget', 'hitRate']);
    const [inBytes] = json('chain.jsonl', '--sizes', '300kB', '--entry-bytes', '100kB', '--policies', 'lru');
    assert.deepEqual([inBytes?.bound, inBytes?.rows[0]?.hitRate], ['exact', 0.75]);
  });

  it('puts admissions before policies', () => {
    const [trace] = json('loop', '--blocks', '2', '--policies', 'lru,lru+tinylfu', '--no-bound');
    assert.deepEqual(
      trace?.rows.map(({ policy }) => policy),
      ['lru', 'lru+tinylfu'],
    );
    assert.ok((trace?.rows[1]?.hitRate ?? 0) > 0.4);
  });

  it('takes files as traces of their own, or as one', () => {
    assert.deepEqual(
      json('loop', 'chain.jsonl', '--blocks', '2', '--policies', 'lru').map(({ requests }) => requests),
      [300, 4],
    );
    const [joined, ...others] = json('loop', 'loop', '--blocks', '3', '--policies', 'lru', '--join');
    assert.deepEqual([joined?.requests, joined?.rows[0]?.hitRate, others.length], [600, 597 / 600, 0]);
  });

  it('writes CSV, a plot, and a page that asks for nothing from outside', () => {
    const files = ['--csv', 'a.csv', '--svg', 'a.svg', '--html', 'a.html'];
    const { status } = simulate('sized.csv', 'loop', '--sizes', '450B,1kB', '--entry-bytes', '1B', ...files);
    assert.equal(status, 0);
    const csv = readFileSync(folder.at('a.csv'), 'utf8').trim().split('\r\n');
    assert.equal(csv[0], 'trace,unit,policy,budget,references,hit_rate,byte_hit_rate,cost_saved');
    assert.equal(csv.length, 1 + 2 * 2 * (policyNames.length + 1));
    assert.ok(csv.every((line) => line.split(',').length === 8));
    for (const file of ['a.svg', 'a.html']) {
      const text = readFileSync(folder.at(file), 'utf8');
      const outside = text.replaceAll('http://www.w3.org/2000/svg', '').match(/https?:|src=|@import|url\(|<script/g);
      assert.equal(outside, null, file);
      assert.ok(text.includes('prefers-color-scheme: dark'));
      for (const name of policyNames) assert.ok(text.includes(`>${name}</text>`), `${file} lacks ${name}`);
      assert.ok(!/NaN|undefined|Infinity/.test(text), file);
    }
  });

  it('says what it is for and how to call it', () => {
    const { status, stdout } = simulate('--help');
    assert.equal(status, 0);
    for (const word of [
      ...policyNames,
      '--sizes',
      '--blocks',
      'mooncake',
      'libcachesim',
      'adapt_size',
      'lirs',
      'second-hit',
    ]) {
      assert.ok(stdout.includes(word), word);
    }
  });

  it('refuses what makes no sense, with a code that says of what kind it is', () => {
    folder.write('broken', '1\n2\nx y\n');
    const cases: readonly (readonly [args: string[], status: number, says: RegExp])[] = [
      [['loop'], 2, /--sizes 1GB,2GB .* or --blocks/],
      [['loop', '--sizes', '1GB', '--blocks', '1'], 2, /either --sizes/],
      [['loop', '--blocks', '0'], 2, /"0" is no whole number from 1 on/],
      [['loop', '--blocks', '-5'], 2, /"-5" is no whole number/],
      [['loop', '--blocks', '10,many'], 2, /"many" is no whole number/],
      [['loop', '--blocks', ''], 2, /"" is no whole number/],
      [['loop', '--sizes', '0B'], 2, /"0B" is no size above zero/],
      [['loop', '--sizes', '-1GB'], 2, /"-1GB" is no size/],
      [['loop', '--sizes', '25%'], 2, /"25%" is no size/],
      [['loop', '--sizes', '1GB'], 2, /does not tell the size .* --blocks, .* --entry-bytes/],
      [['loop', '--blocks', '1', '--entry-bytes', 'big'], 2, /--entry-bytes: "big"/],
      [['loop', '--blocks', '1', '--seed', 'x'], 2, /--seed: "x"/],
      [
        ['loop', '--blocks', '1', '--policies', 'mru'],
        2,
        /no policy "mru"; there are: lru.*ERR_INFERKV_POLICY_UNKNOWN/,
      ],
      [['loop', '--blocks', '1', '--policies', 'lru+never'], 2, /no admission "never"; there are: always/],
      [['loop', '--blocks', '1', '--policies', 'lru+always+always'], 2, /no admission "always\+always"/],
      [['loop', '--blocks', '1', '--csv', 'nowhere/a.csv'], 2, /nowhere\/a\.csv cannot be written/],
      [['loop', '--blocks', '1', '--format', 'parquet'], 2, /parquet/],
      [['--blocks', '1'], 2, /missing required argument/],
      [['nowhere', '--blocks', '1'], 3, /nowhere cannot be read.*ERR_INFERKV_TRACE_MISSING/],
      [['broken', '--blocks', '1'], 4, /broken:3: "x y" is more than one id.*ERR_INFERKV_TRACE_INVALID/],
      [['loop', '--blocks', '1', '--format', 'mooncake'], 4, /loop:1: .* no JSON object/],
    ];
    for (const [args, status, says] of cases) {
      const ended = simulate(...args);
      assert.deepEqual([ended.status, ended.stdout], [status, ''], `${args.join(' ')}: ${ended.stderr}`);
      assert.match(ended.stderr, says);
    }
    const { status, stderr } = simulate('nowhere', '--blocks', '1', '--json');
    assert.equal(status, 3);
    assert.equal((JSON.parse(stderr) as { error: { code: string } }).error.code, 'ERR_INFERKV_TRACE_MISSING');
  });

  const conversation = sharedTrace('mooncake/conversation_trace.jsonl');
  it('agrees with what others measured on attention blocks', { skip: conversation.skip }, () => {
    const [trace] = json(conversation.path, '--blocks', '5860,10000', '--policies', 'lru,arc,s3-fifo,sieve');
    const expected = { lru: [13.6, 21.1], arc: [14.41, 22.3], 's3-fifo': [15.4, 19.6], belady: [35.3, 36.6] };
    assert.deepEqual([trace?.requests, trace?.references], [12_031, 288_500]);
    for (const [policy, rates] of Object.entries(expected)) {
      const rows = trace?.rows.filter((row) => row.policy === policy) ?? [];
      for (const [at, rate] of rates.entries()) {
        const difference = 100 * (rows[at]?.hitRate ?? 0) - rate;
        assert.ok(Math.abs(difference) <= 0.5, `${policy}: ${difference}`);
      }
    }
  });

  const loop = sharedTrace('generic/caffeine_lirs_loop.trace.gz');
  it('finds what W-TinyLFU is good at', { skip: loop.skip }, () => {
    const [trace] = json(loop.path, '--blocks', '512', '--policies', 'lru,w-tinylfu');
    assert.equal(trace?.rows[0]?.hitRate, 0);
    assert.ok((trace?.rows[1]?.hitRate ?? 0) > 0.4);
  });
});
