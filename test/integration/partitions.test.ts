import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { createInferenceCache, isInferkvError, tensor } from '../../src/index.ts';
import { FakeLibrary } from '../support/fake-library.ts';

const input = (value: number): { readonly x: ReturnType<typeof tensor> } => ({
  x: tensor(Float32Array.of(value, 1, 2), [1, 3]),
});

describe('the partitions of a cache', () => {
  it('are all there, each with its budget', async () => {
    await using cache = createInferenceCache({ budgetBytes: '1GB' });
    const stats = cache.stats();
    assert.deepEqual(Object.keys(stats), ['models', 'parameters', 'results', 'activations', 'attention']);
    const sum = Object.values(stats).reduce((bytes, { budgetBytes }) => bytes + budgetBytes, 0);
    assert.ok(sum <= 1e9);
    assert.deepEqual(cache.breakdown('attention'), { tenants: [], tags: [] });
  });

  it('say that a total leaves nothing for them, and not what nobody has set', () => {
    assert.throws(
      () => createInferenceCache({ budgetBytes: 1.5 }),
      (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && error.message.includes('budgetBytes'),
    );
  });

  it('say what is wrong with a policy or an admission', () => {
    for (const partitions of [{ attention: { policy: 'mru' } }, { results: { admission: 'sometimes' } }]) {
      assert.throws(
        () => createInferenceCache({ partitions } as object),
        (error) => isInferkvError(error, 'ERR_INFERKV_POLICY_UNKNOWN'),
      );
    }
  });

  it('explain what became of a result', async () => {
    await using library = new FakeLibrary({ partitions: { results: { ttlMs: 1000 } } });
    const model = library.model('small');
    const { cache: report } = await model.run(input(1), { tenant: 'alice' });
    const key = report.key ?? '';
    await model.run(input(1), { tenant: 'alice' });
    const present = library.cache.explain(key);
    assert.ok(present.state === 'present');
    assert.deepEqual([present.partition, present.tenant, present.uses], ['results', 'alice', 1]);
    assert.ok(present.tags.includes('name:small') && present.tags.includes('tenant:alice'));
    library.clock.advance(2000);
    const gone = library.cache.explain(key);
    assert.ok(gone.state === 'departed' && gone.reason === 'expired' && gone.partition === 'results');
    const unknown = library.cache.explain('never');
    assert.deepEqual([unknown.state, unknown.partition], ['unknown', undefined]);
  });

  it('let go by key, tag, model and tenant; loaded models stay', async () => {
    await using library = new FakeLibrary();
    const [small, other] = [library.model('small'), library.model('other', 1000, 'y')];
    const fill = async (): Promise<string> => {
      await small.run(input(1), { tenant: 'alice' });
      await small.run(input(2), { tenant: 'bob' });
      await other.run(input(1), { tenant: 'alice' });
      return (await other.run(input(3))).cache.key ?? '';
    };
    const { cache } = library;
    const key = await fill();
    assert.equal(cache.invalidate({ key }), 1);
    assert.equal(cache.invalidate({ key }), 0);
    assert.equal(cache.invalidate({ tenant: 'alice' }), 2);
    assert.equal(cache.invalidate({ model: 'small' }), 1);
    assert.equal(cache.stats().results.entries, 0);
    await fill();
    assert.equal(cache.invalidate({ tag: 'name:other' }), 2);
    assert.equal(cache.stats().results.entries, 2);
    assert.deepEqual(await library.resident(small, other), ['small', 'other']);
  });

  it('hold tenants to their quotas', async () => {
    await using library = new FakeLibrary({ partitions: { results: { budgetBytes: 100_000, maxTenantBytes: '2%' } } });
    const model = library.model('small');
    await model.run(input(0), { tenant: 'quiet' });
    for (let at = 1; at <= 20; at++) await model.run(input(at), { tenant: 'loud' });
    const { tenants } = library.cache.breakdown('results');
    const loud = tenants.find(({ tenant }) => tenant === 'loud');
    assert.ok(loud !== undefined && loud.usedBytes <= 2000 && loud.evictions > 0, JSON.stringify(loud));
    assert.equal((await model.run(input(0), { tenant: 'quiet' })).cache.hit, true);
    assert.equal((await model.run(input(20), { tenant: 'loud' })).cache.hit, true);
  });
});
