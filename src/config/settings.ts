import { PARTITION_DEFAULTS, PARTITION_NAMES, type PartitionName } from './partitions.ts';
import { SERVER_DEFAULTS } from './server-settings.ts';

/** How a setting is written where everything is text: in the environment and in flags. */
export type SettingKind = 'text' | 'number' | 'size' | 'switch';

/** A setting that the environment and flags can give. */
export interface Setting {
  /** Its place in the configuration, with dots. */
  readonly path: string;
  readonly kind: SettingKind;
  /** What holds where nobody says anything; `undefined` where there is nothing. */
  readonly fallback: string | number | boolean | undefined;
}

const CACHE_SETTINGS: readonly Setting[] = [
  { path: 'repository', kind: 'text', fallback: 'models' },
  { path: 'budgetBytes', kind: 'size', fallback: '100%' },
  ...PARTITION_NAMES.flatMap(settingsOf),
  { path: 'recheckMs', kind: 'number', fallback: 1000 },
  { path: 'seed', kind: 'number', fallback: 1 },
  { path: 'debug', kind: 'switch', fallback: false },
];

function settingsOf(name: PartitionName): readonly Setting[] {
  const { budgetBytes, policy } = PARTITION_DEFAULTS[name];
  const at = `partitions.${name}`;
  return [
    { path: `${at}.budgetBytes`, kind: 'size', fallback: budgetBytes },
    { path: `${at}.policy`, kind: 'text', fallback: policy },
    { path: `${at}.admission`, kind: 'text', fallback: undefined },
    { path: `${at}.ttlMs`, kind: 'number', fallback: undefined },
    { path: `${at}.maxEntryBytes`, kind: 'size', fallback: undefined },
    { path: `${at}.maxTenantBytes`, kind: 'size', fallback: undefined },
    ...(name === 'models' ? [{ path: `${at}.keepAliveMs`, kind: 'number', fallback: undefined } as const] : []),
    ...(name === 'results' ? [{ path: `${at}.storage`, kind: 'text', fallback: 'heap' } as const] : []),
  ];
}

const SERVER_KINDS = {
  host: 'text',
  port: 'number',
  keysFile: 'text',
  maxBodyBytes: 'size',
  maxBufferedBytes: 'size',
  maxConcurrent: 'number',
  maxConcurrentPerTenant: 'number',
  maxConnections: 'number',
  requestTimeoutMs: 'number',
  responseTimeoutMs: 'number',
  deadlineMs: 'number',
  shutdownTimeoutMs: 'number',
  logLevel: 'text',
} as const satisfies Record<string, SettingKind>;

/** Every setting but those of single models and single tenants, which only a file can give. */
export const SETTINGS: readonly Setting[] = [
  ...CACHE_SETTINGS,
  ...Object.entries(SERVER_KINDS).map(([name, kind]) => ({
    path: `server.${name}`,
    kind,
    fallback: (SERVER_DEFAULTS as Partial<Record<string, string | number>>)[name],
  })),
];

/** The environment's name of a setting: `partitions.results.budgetBytes` is `INFERKV_PARTITIONS_RESULTS_BUDGET_BYTES`. */
export function variableOf({ path }: Setting): string {
  const words = path.replace(/[A-Z]/g, (letter) => `_${letter}`).replaceAll('.', '_');
  return `INFERKV_${words.toUpperCase()}`;
}
