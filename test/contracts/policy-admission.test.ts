import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../../src/base/errors.ts';
import type { Admission } from '../../src/policies/admission.ts';
import { admissionNames, createAdmission } from '../../src/policies/registry.ts';

const create = (name: string, entries = 100): Admission => createAdmission(name, { entries: () => entries });
const admits = (admission: Admission, candidate: number, victim: number): boolean =>
  admission.admits(candidate, 10, 1, victim, 10, 1);

for (const name of admissionNames) {
  describe(`admission ${name}`, () => {
    it('says its name', () => {
      assert.equal(create(name).name, name);
    });

    it('answers the same for the same requests, however often it is asked', () => {
      const requests = fc.array(fc.tuple(fc.nat(50), fc.nat(50)), { maxLength: 200, size: 'max' });
      fc.assert(
        fc.property(requests, (sequence) => {
          const [once, thrice] = [create(name), create(name)];
          for (const [candidate, victim] of sequence) {
            once.record(candidate);
            thrice.record(candidate);
            admits(thrice, candidate, victim);
            admits(thrice, victim, candidate);
            assert.equal(admits(thrice, candidate, victim), admits(once, candidate, victim));
          }
        }),
      );
    });

    it('keeps its memory within a bound, whatever is asked for', () => {
      const admission = create(name);
      const before = process.memoryUsage().arrayBuffers;
      for (let identity = 0; identity < 300_000; identity++) {
        admission.record(identity);
        admits(admission, identity, identity + 1);
      }
      assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
    });

    it('lets a newcomer in that is asked for again and again', () => {
      const admission = create(name);
      for (let victim = 0; victim < 50; victim++) admission.record(victim);
      for (let times = 0; times < 3; times++) admission.record(1000);
      assert.equal(admits(admission, 1000, 7), true);
    });
  });
}

describe('what each admission is for', () => {
  it('tinylfu keeps a newcomer from displacing what is asked for as often', () => {
    const admission = create('tinylfu');
    for (let times = 0; times < 3; times++) admission.record(1);
    admission.record(2);
    assert.equal(admits(admission, 2, 1), false);
    assert.equal(admits(admission, 1, 2), true);
    admission.record(2);
    admission.record(2);
    assert.equal(admits(admission, 2, 1), false);
  });

  it('second-hit lets in what is asked for the second time', () => {
    const admission = create('second-hit');
    admission.record(5);
    assert.equal(admits(admission, 5, 9), false);
    for (let other = 100; other < 120; other++) admission.record(other);
    assert.equal(admits(admission, 5, 9), false);
    admission.record(5);
    assert.equal(admits(admission, 5, 9), true);
  });

  it('second-hit forgets in time, and later the larger the partition is', () => {
    const asked = (entries: number): boolean => {
      const admission = create('second-hit', entries);
      admission.record(5);
      for (let other = 100; other < 1100; other++) admission.record(other);
      admission.record(5);
      return admits(admission, 5, 9);
    };
    assert.deepEqual([asked(64), asked(4096)], [false, true]);
  });

  it('names those there are when asked for another', () => {
    assert.deepEqual(admissionNames, ['always', 'tinylfu', 'second-hit']);
    for (const name of ['never', '', 'toString', '__proto__']) {
      assert.throws(
        () => create(name),
        (error) => isInferkvError(error, 'ERR_INFERKV_POLICY_UNKNOWN') && error.message.includes('always, tinylfu'),
      );
    }
  });
});
