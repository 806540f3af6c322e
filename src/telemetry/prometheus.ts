import { subscribe, unsubscribe } from 'node:diagnostics_channel';

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

import type { ChannelMessages, ChannelName } from './channels.ts';

/** Numbers read when Prometheus asks. */
export interface MetricSources {
  readonly partitions: () => Readonly<Record<string, PartitionNumbers>>;
  /** Requests under way. */
  readonly requestsUnderWay: () => number;
  /** Bytes of request bodies in memory. */
  readonly bufferedBytes: () => number;
}

const PARTITION_GAUGES = {
  entries: 'Entries that lie in the partition',
  usedBytes: 'Bytes charged to the budget',
  budgetBytes: 'Bytes of the budget',
  activeLeases: 'Leases that are held',
} as const;

const PARTITION_COUNTERS = {
  hits: 'Requests answered by an entry',
  misses: 'Requests that had to load or compute',
  joined: 'Requests served by the load or run of an equal one',
  insertions: 'Entries taken in',
  evictions: 'Entries that left for want of room',
  expirations: 'Entries that left for their age',
  refusals: 'Values that were served and not kept',
} as const;

const PARTITION_REASONS = {
  departedBy: ['inferkv_partition_departures_total', 'Entries that left, by why'],
  refusedBy: ['inferkv_partition_refusals_by_reason_total', 'Values that were served and not kept, by why'],
} as const;

/** Numbers of one partition, as they are told to Prometheus. */
export type PartitionNumbers = Readonly<
  Record<keyof typeof PARTITION_GAUGES | keyof typeof PARTITION_COUNTERS, number> &
    Record<keyof typeof PARTITION_REASONS, Readonly<Record<string, number>>>
>;

// Seconds: a hit takes tenths of a millisecond, a cold model seconds.
const DURATION_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** What happens here, in the form that Prometheus reads. Listens from when it is made until it is closed. */
export class PrometheusMetrics implements Disposable {
  readonly #registry = new Registry();
  readonly #requests: Histogram<'route' | 'method' | 'status'>;
  readonly #listeners: (() => void)[] = [];

  constructor(sources: MetricSources) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#requests = new Histogram({
      name: 'inferkv_http_request_duration_seconds',
      help: 'Time from a request to the end of its answer',
      labelNames: ['route', 'method', 'status'],
      buckets: DURATION_BUCKETS,
      registers,
    });
    gauge(
      'inferkv_http_requests_under_way',
      'Requests let in and not yet answered',
      sources.requestsUnderWay,
      registers,
    );
    gauge('inferkv_http_body_bytes', 'Memory held by request bodies', sources.bufferedBytes, registers);
    for (const [field, help] of Object.entries(PARTITION_GAUGES)) {
      partitionNumbers(
        field as keyof typeof PARTITION_GAUGES,
        `inferkv_partition_${snake(field)}`,
        help,
        sources,
        registers,
      );
    }
    for (const [field, help] of Object.entries(PARTITION_COUNTERS)) {
      const name = `inferkv_partition_${snake(field)}_total`;
      partitionNumbers(field as keyof typeof PARTITION_COUNTERS, name, help, sources, registers);
    }
    partitionReasons('departedBy', sources, registers);
    partitionReasons('refusedBy', sources, registers);
    this.#countAnswers(registers);
    this.#countModels(registers);
  }

  /** The type that goes with `text`. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything, in Prometheus's text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Counts one HTTP request. */
  observeRequest(route: string, method: string, status: number, durationMs: number): void {
    this.#requests.observe({ route, method, status }, durationMs / 1000);
  }

  [Symbol.dispose](): void {
    for (const stop of this.#listeners) stop();
    this.#registry.clear();
  }

  #countAnswers(registers: Registry[]): void {
    const answers = new Counter({
      name: 'inferkv_answers_total',
      help: 'Answers by how they came about',
      labelNames: ['model', 'status'],
      registers,
    });
    const saved = new Counter({
      name: 'inferkv_saved_seconds_total',
      help: 'Time that hits made unnecessary',
      labelNames: ['model'],
      registers,
    });
    this.#listen('inferkv:answered', ({ model, status, savedMs }) => {
      answers.inc({ model, status });
      if (savedMs > 0) saved.inc({ model }, savedMs / 1000);
    });
  }

  #countModels(registers: Registry[]): void {
    const loads = new Counter({
      name: 'inferkv_model_loads_total',
      help: 'Loads of models',
      labelNames: ['model'],
      registers,
    });
    const seconds = new Counter({
      name: 'inferkv_model_load_seconds_total',
      help: 'Time that loads of models took',
      labelNames: ['model'],
      registers,
    });
    const releases = new Counter({
      name: 'inferkv_model_releases_total',
      help: 'Models that left memory',
      labelNames: ['model'],
      registers,
    });
    const faults = new Counter({
      name: 'inferkv_model_check_failures_total',
      help: 'Changed model files that could not be used',
      labelNames: ['model'],
      registers,
    });
    this.#listen('inferkv:model.loaded', ({ model, loadMs }) => {
      loads.inc({ model });
      seconds.inc({ model }, loadMs / 1000);
    });
    this.#listen('inferkv:model.released', ({ model }) => releases.inc({ model }));
    this.#listen('inferkv:model.check-failed', ({ model }) => faults.inc({ model }));
  }

  #listen<Name extends ChannelName>(name: Name, hear: (message: ChannelMessages[Name]) => void): void {
    const listener = (message: unknown): void => hear(message as ChannelMessages[Name]);
    subscribe(name, listener);
    this.#listeners.push(() => unsubscribe(name, listener));
  }
}

function gauge(name: string, help: string, read: () => number, registers: Registry[]): void {
  const made: Gauge = new Gauge({ name, help, registers, collect: (): void => made.set(read()) });
}

/** Numbers that are counted elsewhere, taken over when Prometheus asks. */
function partitionNumbers(
  field: keyof typeof PARTITION_GAUGES | keyof typeof PARTITION_COUNTERS,
  name: string,
  help: string,
  { partitions }: MetricSources,
  registers: Registry[],
): void {
  const options = { name, help, labelNames: ['partition'] as const, registers };
  const collect = (): void => {
    made.reset();
    for (const [partition, numbers] of Object.entries(partitions())) made.inc({ partition }, numbers[field]);
  };
  const made: Counter<'partition'> | Gauge<'partition'> = name.endsWith('_total')
    ? new Counter({ ...options, collect })
    : new Gauge({ ...options, collect });
}

/** Counts by reason; the reasons are few and fixed. */
function partitionReasons(
  field: keyof typeof PARTITION_REASONS,
  { partitions }: MetricSources,
  registers: Registry[],
): void {
  const [name, help] = PARTITION_REASONS[field];
  const made: Counter<'partition' | 'reason'> = new Counter({
    name,
    help,
    labelNames: ['partition', 'reason'] as const,
    registers,
    collect: (): void => {
      made.reset();
      for (const [partition, numbers] of Object.entries(partitions())) {
        for (const [reason, count] of Object.entries(numbers[field])) made.inc({ partition, reason }, count);
      }
    },
  });
}

function snake(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
