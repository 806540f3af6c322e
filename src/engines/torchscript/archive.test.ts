import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { createRandom } from '../../base/random.ts';
import { isInferkvError } from '../../base/errors.ts';
import { checkArchive } from './archive.ts';
import { zip, type ZipEntry } from '../../../test/support/zip.ts';

const text = (name: string, content: string, more: Partial<ZipEntry> = {}): ZipEntry => ({
  name,
  content: Buffer.from(content),
  ...more,
});
const PROGRAM = [text('m/data.pkl', 'pickle'), text('m/constants.pkl', 'constants'), text('m/version', '3')];

function says(bytes: Uint8Array): string {
  try {
    checkArchive(bytes, 'model.pt');
    return 'whole';
  } catch (error) {
    assert.ok(isInferkvError(error, 'ERR_INFERKV_ARTIFACT_INVALID'), String(error));
    return error.message;
  }
}

describe('TorchScript archives', () => {
  it('are whole with stored and deflated entries', () => {
    assert.equal(says(zip(...PROGRAM, text('m/code/a.py', 'def f(): pass', { deflate: true }))), 'whole');
    assert.equal(says(zip(...PROGRAM, text('m/data/0', ''))), 'whole');
  });

  for (const [what, bytes, expected] of [
    ['nothing', new Uint8Array(), /no zip archive/],
    ['text', Buffer.from('no archive at all, but long enough to be looked through'), /no zip archive/],
    ['some other zip archive', zip(text('readme.txt', 'hello')), /something else/],
    ['an empty zip archive', zip(), /something else/],
    ['what torch.save writes', zip(text('m/data.pkl', 'p'), text('m/data/0', 'w')), /torch\.jit\.script/],
    ['a wrong sum', zip(...PROGRAM, text('m/data/0', 'weights', { crc: 1 })), /m\/data\/0 is damaged/],
    ['a wrong name inside', zip(...PROGRAM, text('m/data/0', 'w', { localName: 'm/data/1' })), /m\/data\/0 is damaged/],
    ['an entry twice', zip(...PROGRAM, text('m/version', '4')), /two entries/],
    ['an encrypted entry', zip(...PROGRAM, text('m/x', 'x', { flags: 1 })), /encrypted/],
    ['a size that lies', zip(...PROGRAM, text('m/x', 'xxxx', { sizeBytes: 3 })), /damaged/],
    ['deflated too large', zip(...PROGRAM, text('m/x', 'x'.repeat(99), { deflate: true, sizeBytes: 9 })), /damaged/],
    ['deflated too small', zip(...PROGRAM, text('m/x', 'x'.repeat(9), { deflate: true, sizeBytes: 99 })), /damaged/],
    ['a claim of 4 GB', zip(...PROGRAM, text('m/x', 'x', { deflate: true, sizeBytes: 0xfffffffe })), /256 MiB/],
  ] as const) {
    it(`are none with ${what}`, () => assert.match(says(bytes), expected));
  }

  it('are none if a small file would become a large one', () => {
    const content = Buffer.alloc(300 * 1024 * 1024);
    const bomb = zip(...PROGRAM, { name: 'm/code/bomb.py', content, deflate: true });
    assert.ok(bomb.length < 1024 * 1024);
    assert.match(says(bomb), /256 MiB/);
  });

  it('are none if cut anywhere', () => {
    const whole = zip(...PROGRAM, text('m/code/a.py', 'def f(): pass', { deflate: true }));
    for (let length = 0; length < whole.length; length++) assert.notEqual(says(whole.subarray(0, length)), 'whole');
  });

  it('show a flipped bit anywhere in what is read of them', () => {
    const whole = zip(...PROGRAM, text('m/code/a.py', 'def f(): return 42', { deflate: true }));
    const isCovered = coveredBy(whole);
    for (let at = 0; at < whole.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const flipped = Buffer.from(whole);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        if (isCovered(at)) assert.notEqual(says(flipped), 'whole', `byte ${at}, bit ${bit}`);
        else says(flipped);
      }
    }
  });

  it('are never read beyond their end, whatever stands in them', () => {
    const random = createRandom(7);
    const whole = zip(...PROGRAM);
    for (let round = 0; round < 20_000; round++) {
      const broken = Buffer.from(whole);
      for (let flips = random.below(6); flips >= 0; flips--) broken[random.below(broken.length)] = random.below(256);
      says(broken.subarray(0, random.below(4) === 0 ? random.below(broken.length) : undefined));
    }
  });
});

/** Contents, names, sums and sizes: everything but dates, versions, flags and counts of disks, which nobody reads. */
function coveredBy(whole: Buffer): (at: number) => boolean {
  const unread = new Set<number>();
  const skip = (from: number, length: number): void => {
    for (let at = from; at < from + length; at++) unread.add(at);
  };
  for (let at = 0; at + 4 <= whole.length; at++) {
    const signature = whole.readUInt32LE(at);
    // Of the local header the directory has a copy, which is the one that counts.
    if (signature === 0x04034b50) {
      for (const [from, length] of [
        [4, 4],
        [10, 16],
      ] as const)
        skip(at + from, length);
      // A deflated stream ends somewhere within its last byte.
      if (whole.readUInt16LE(at + 8) === 8)
        skip(at + 29 + whole.readUInt32LE(at + 18) + whole.readUInt16LE(at + 26), 1);
    }
    if (signature === 0x02014b50)
      for (const [from, length] of [
        [4, 6],
        [12, 4],
        [34, 8],
      ] as const)
        skip(at + from, length);
    if (signature === 0x06054b50)
      for (const [from, length] of [
        [4, 6],
        [12, 4],
      ] as const)
        skip(at + from, length);
  }
  return (at) => !unread.has(at);
}
