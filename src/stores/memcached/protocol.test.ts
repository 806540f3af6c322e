import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { encodeRequest, HEADER_BYTES, OPCODE, ResponseReader, type Response } from './protocol.ts';

/** An answer as a server writes it. */
function answer(opaque: number, flags: number | undefined, key: string, value: Uint8Array, status = 0): Buffer {
  const extras = Buffer.alloc(flags === undefined ? 0 : 4);
  if (flags !== undefined) extras.writeUInt32BE(flags);
  const frame = Buffer.concat([Buffer.alloc(HEADER_BYTES), extras, Buffer.from(key), value]);
  frame[0] = 0x81;
  frame.writeUInt16BE(key.length, 2);
  frame[4] = extras.length;
  frame.writeUInt16BE(status, 6);
  frame.writeUInt32BE(frame.length - HEADER_BYTES, 8);
  frame.writeUInt32BE(opaque, 12);
  frame.writeBigUInt64BE(BigInt(opaque) * 3n, 16);
  return frame;
}

describe('memcached’s binary protocol', () => {
  it('writes requests as the protocol has them', () => {
    // The example of the protocol's own description: get "Hello".
    assert.equal(
      encodeRequest({ opcode: OPCODE.get, key: 'Hello' }, 0).toString('hex'),
      '80000005000000000000000500000000000000000000000048656c6c6f',
    );
    const add = encodeRequest(
      {
        opcode: OPCODE.add,
        key: 'Hello',
        extras: Buffer.from('deadbeef00000e10', 'hex'),
        value: [Buffer.from('Wor'), Buffer.from('ld')],
      },
      7,
    );
    assert.equal(
      add.toString('hex'),
      '800200050800000000000012000000070000000000000000deadbeef00000e1048656c6c6f576f726c64',
    );
  });

  it('reads answers in whatever pieces they come, into memory of their own', () => {
    const one = fc.record({
      flags: fc.option(fc.nat(), { nil: undefined }),
      key: fc.string({ maxLength: 5, unit: 'grapheme-ascii' }),
      value: fc.uint8Array({ maxLength: 60 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 50 })), (answers, sizes) => {
        const bytes = Buffer.concat(answers.map(({ flags, key, value }, at) => answer(at, flags, key, value)));
        const read: Response[] = [];
        const reader = new ResponseReader(1000, (response) => read.push(response));
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length] ?? bytes.length;
          reader.push(bytes.subarray(at, at + size));
          at += size;
        }
        assert.equal(read.length, answers.length);
        for (const [at, response] of read.entries()) {
          const { flags = 0, value } = answers[at] as (typeof answers)[0];
          assert.equal(Buffer.compare(response.value, value), 0);
          assert.deepEqual([response.opaque, response.flags, response.cas], [at, flags, BigInt(at) * 3n]);
          assert.equal(response.value.byteOffset, 0);
        }
      }),
    );
  });

  it('takes nothing for an answer that is none', () => {
    const reader = (): ResponseReader => new ResponseReader(100, () => assert.fail('an answer'));
    assert.throws(() => reader().push(Buffer.from('VERSION 1.6.18\r\nVERSION 1.6.18\r\n')), /no answer/);
    assert.throws(() => reader().push(answer(1, 0, 'key', Buffer.alloc(100))), /longer than any item/);
    const short = answer(1, 0, 'key', Buffer.alloc(0));
    short.writeUInt32BE(2, 8);
    assert.throws(() => reader().push(short), /shorter than its key/);
  });
});
