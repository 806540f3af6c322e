import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../base/errors.ts';
import { PARTITION_NAMES, partitionSettings, type PartitionName } from './partitions.ts';
import { checkOptions } from './schema.ts';
import { memoryBytes } from './sizes.ts';

function budgets(options: object): Readonly<Record<PartitionName, number>> {
  const settings = partitionSettings(checkOptions(options));
  return Object.fromEntries(PARTITION_NAMES.map((name) => [name, settings[name].budgetBytes])) as Record<
    PartitionName,
    number
  >;
}

function refuses(options: object, message: RegExp): void {
  assert.throws(
    () => partitionSettings(checkOptions(options)),
    (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && message.test(error.message),
    JSON.stringify(options),
  );
}

describe('budgets of partitions', () => {
  it('are shares of the memory the process may use, as nobody says anything', () => {
    const total = memoryBytes();
    assert.ok(total > 0 && Number.isFinite(total));
    const { models, results, parameters, activations, attention } = budgets({});
    assert.deepEqual(
      [models, parameters, results, activations, attention],
      [0.4, 0.1, 0.1, 0.05, 0.1].map((share) => Math.floor(total * share)),
    );
  });

  it('are shares of the total where there is one, numbers and sizes as they are', () => {
    assert.deepEqual(
      budgets({
        budgetBytes: '1GB',
        partitions: { results: { budgetBytes: '20%' }, attention: { budgetBytes: '100MB' } },
      }),
      { models: 400e6, parameters: 100e6, results: 200e6, activations: 50e6, attention: 100e6 },
    );
  });

  it('of partitions that nobody sets give way in equal measure', () => {
    const { models, results, parameters, activations, attention } = budgets({
      budgetBytes: 1000,
      partitions: { models: { budgetBytes: 930 } },
    });
    assert.deepEqual([models, parameters, results, activations, attention], [930, 20, 20, 10, 20]);
  });

  it('may not exceed the total, and leave something for each', () => {
    refuses(
      { budgetBytes: '1GB', partitions: { models: { budgetBytes: '800MB' }, results: { budgetBytes: '300MB' } } },
      /budgetBytes, 1\.0 GB.*models 800 MB, results 300 MB/,
    );
    refuses({ partitions: { models: { budgetBytes: '60%' }, results: { budgetBytes: '50%' } } }, /do not fit/);
    refuses({ budgetBytes: 1000, partitions: { models: { budgetBytes: 1000 } } }, /something left for each/);
    for (const budgetBytes of [0, -5, 'much', '0%', '101%', Number.NaN]) {
      refuses({ budgetBytes }, /budgetBytes/);
      refuses({ partitions: { activations: { budgetBytes } } }, /activations\.budgetBytes/);
    }
  });
});

describe('settings of partitions', () => {
  it('take entries and tenants as shares of their partition', () => {
    const { results } = partitionSettings(
      checkOptions({
        budgetBytes: 10_000,
        partitions: {
          results: {
            budgetBytes: '10%',
            policy: 's3-fifo',
            admission: 'tinylfu',
            ttlMs: 5000,
            maxEntryBytes: '50%',
            maxTenantBytes: '25%',
            quotas: { alice: '75%', bob: 100 },
          },
        },
      }),
    );
    assert.deepEqual(results, {
      name: 'results',
      budgetBytes: 1000,
      policy: 's3-fifo',
      admission: 'tinylfu',
      ttlMs: 5000,
      maxEntryBytes: 500,
      maxTenantBytes: 250,
      quotas: { alice: 750, bob: 100 },
    });
  });

  it('name the setting that is wrong', () => {
    refuses({ partitions: { results: { quotas: { alice: 'lots' } } } }, /partitions\.results\.quotas\.alice/);
    refuses({ partitions: { results: { maxTenantBytes: 'lots' } } }, /partitions\.results\.maxTenantBytes/);
    refuses({ partitions: { results: { ttlMs: -1 } } }, /partitions\.results\.ttlMs/);
    refuses({ partitions: { nothing: {} } }, /nothing/);
  });
});
