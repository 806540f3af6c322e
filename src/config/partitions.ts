import { formatBytes, parseBytes } from '../base/bytes.ts';
import { InferkvError } from '../base/errors.ts';
import type { CheckedOptions, CheckedPartition } from './schema.ts';
import { bytesOfSetting, memoryBytes } from './sizes.ts';

/** A region for one kind of value. */
export type PartitionName = 'models' | 'parameters' | 'results' | 'activations' | 'attention';

/** What holds for a partition that nobody says anything about; budgets are shares of the total. */
export const PARTITION_DEFAULTS: Readonly<
  Record<PartitionName, { readonly budgetBytes: string; readonly policy: string }>
> = {
  models: { budgetBytes: '40%', policy: 'gdsf' },
  parameters: { budgetBytes: '10%', policy: 'gdsf' },
  results: { budgetBytes: '10%', policy: 'lru' },
  activations: { budgetBytes: '5%', policy: 'gdsf' },
  attention: { budgetBytes: '10%', policy: 'lru' },
};

export const PARTITION_NAMES: readonly PartitionName[] = Object.keys(PARTITION_DEFAULTS) as PartitionName[];

/** Settings of one partition with every size in bytes. */
export interface PartitionSettings {
  readonly name: PartitionName;
  readonly budgetBytes: number;
  readonly policy: string;
  readonly admission: string | undefined;
  readonly ttlMs: number | undefined;
  readonly maxEntryBytes: number | undefined;
  readonly maxTenantBytes: number | undefined;
  readonly quotas: Readonly<Record<string, number>> | undefined;
}

/**
 * The settings of all partitions. Shares of budgets are of the total, shares of entries and tenants are of their partition.
 *
 * Partitions that nobody sets take their default shares, in equal measure less where the others leave too little.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a size that is none, and where the partitions exceed the total
 */
export function partitionSettings(options: CheckedOptions): Readonly<Record<PartitionName, PartitionSettings>> {
  const { partitions = {} } = options;
  const totalBytes =
    options.budgetBytes === undefined ? memoryBytes() : bytesOfSetting('budgetBytes', options.budgetBytes);
  const budgets = budgetsWithin(totalBytes, options);
  const settings = PARTITION_NAMES.map((name) => [name, settingsOf(name, partitions[name] ?? {}, budgets[name])]);
  return Object.fromEntries(settings) as Record<PartitionName, PartitionSettings>;
}

function budgetsWithin(
  totalBytes: number,
  { partitions = {} }: CheckedOptions,
): Readonly<Record<PartitionName, number>> {
  const budgets = {} as Record<PartitionName, number>;
  const unset: PartitionName[] = [];
  for (const name of PARTITION_NAMES) {
    const given = partitions[name]?.budgetBytes;
    if (given === undefined) unset.push(name);
    else budgets[name] = bytesOfSetting(`partitions.${name}.budgetBytes`, given, totalBytes);
  }
  const setBytes = Object.values(budgets).reduce((sum, bytes) => sum + bytes, 0);
  if (setBytes > totalBytes) throw exceeded(totalBytes, budgets);
  const defaults = unset.map((name) => parseBytes(PARTITION_DEFAULTS[name].budgetBytes, totalBytes) ?? 0);
  const defaultBytes = defaults.reduce((sum, bytes) => sum + bytes, 0);
  const scale = defaultBytes === 0 ? 0 : Math.min(1, (totalBytes - setBytes) / defaultBytes);
  for (const [at, name] of unset.entries()) {
    budgets[name] = Math.floor((defaults[at] ?? 0) * scale);
    if (budgets[name] < 1) throw exceeded(totalBytes, budgets);
  }
  return budgets;
}

function settingsOf(name: PartitionName, given: CheckedPartition, budgetBytes: number): PartitionSettings {
  const path = `partitions.${name}`;
  const optional = (setting: string, value: number | string | undefined): number | undefined =>
    value === undefined ? undefined : bytesOfSetting(`${path}.${setting}`, value, budgetBytes);
  const quotas = Object.entries(given.quotas ?? {}).map(
    ([tenant, value]) => [tenant, bytesOfSetting(`${path}.quotas.${tenant}`, value, budgetBytes)] as const,
  );
  return {
    name,
    budgetBytes,
    policy: given.policy ?? PARTITION_DEFAULTS[name].policy,
    admission: given.admission,
    ttlMs: given.ttlMs,
    maxEntryBytes: optional('maxEntryBytes', given.maxEntryBytes),
    maxTenantBytes: optional('maxTenantBytes', given.maxTenantBytes),
    quotas: given.quotas === undefined ? undefined : Object.fromEntries(quotas),
  };
}

function exceeded(totalBytes: number, budgets: Readonly<Partial<Record<PartitionName, number>>>): InferkvError {
  const list = Object.entries(budgets).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  return new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `The partitions do not fit into budgetBytes, ${formatBytes(totalBytes)}, with something left for each: ${list.join(', ')}. Lower partitions.*.budgetBytes, or raise budgetBytes.`,
  );
}
