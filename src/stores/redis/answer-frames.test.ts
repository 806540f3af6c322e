import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { AnswerFrames } from './answer-frames.ts';

const text = (length: number, fill: string): string => `$${length}\r\n${fill.repeat(length)}\r\n`;

const answers = fc.array(
  fc.oneof(
    fc.constantFrom(
      '+OK\r\n',
      ':42\r\n',
      '$-1\r\n',
      '_\r\n',
      '-ERR no\r\n',
      '*2\r\n',
      '>1\r\n',
      `+${'long'.repeat(30)}\r\n`,
    ),
    fc.constantFrom(0, 1, 64, 4093, 4094, 4095, 9000, 300_000).map((length) => text(length, 'v')),
    // What looks like the protocol inside a string is none of it.
    fc.constantFrom('$5000\r\n', '\r\n').map((inside) => `$${inside.length}\r\n${inside}\r\n`),
  ),
  { maxLength: 12 },
);

/** Gives bytes to frames as a socket would: into the memory they name, as much as there is, but no more than the next cut. */
function framed(bytes: Buffer, cuts: readonly number[]): readonly Buffer[] {
  const pieces: Buffer[] = [];
  const frames = new AnswerFrames((piece) => void pieces.push(piece), assert.ifError);
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const target = frames.target();
    const length = Math.min(target.length, cuts[turn % cuts.length] ?? bytes.length, bytes.length - at);
    bytes.copy(target, 0, at, at + length);
    frames.take(target.subarray(0, length));
    at += length;
  }
  return pieces;
}

describe('frames of answers', () => {
  it('give the same bytes in the same order, however they come', () => {
    fc.assert(
      fc.property(
        answers,
        fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 5 }),
        (all, cuts) => {
          const bytes = Buffer.from(all.join(''));
          // A body that has begun is kept until it is whole.
          assert.equal(Buffer.compare(Buffer.concat(framed(bytes, cuts)), bytes), 0);
        },
      ),
    );
  });

  it('give a long string in one piece, in memory that nothing else is in', () => {
    for (const length of [4094, 65_536, 1_000_000]) {
      const pieces = framed(Buffer.from(`+OK\r\n${text(length, 'v')}:1\r\n`), [70_000, 3, 300_000]);
      const whole = pieces.find((piece) => piece.length === length + 2);
      assert.equal(whole?.buffer.byteLength, length + 2);
    }
  });

  it('never give memory that is read into again', () => {
    const pieces: Buffer[] = [];
    const frames = new AnswerFrames((piece) => void pieces.push(piece), assert.ifError);
    for (const word of ['+one\r\n', '+two\r\n']) frames.take(frames.target().subarray(0, frames.target().write(word)));
    assert.equal(Buffer.concat(pieces).toString(), '+one\r\n+two\r\n');
  });

  it('refuse what announces more than there can be, and take no memory for it', () => {
    for (const length of [2 ** 29 + 1, 9_999_999_999]) {
      const refused: Error[] = [];
      const frames = new AnswerFrames(
        () => undefined,
        (error) => void refused.push(error),
      );
      frames.take(Buffer.from(`$${length}\r\nabc`));
      assert.match(String(refused[0]), /announced/);
    }
  });

  it('take what is no answer at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
        const out = Buffer.concat(framed(Buffer.from(bytes), [7, 1000]));
        assert.equal(Buffer.compare(out, bytes.subarray(0, out.length)), 0);
      }),
    );
  });
});
