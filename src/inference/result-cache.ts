import type { Clock } from '../base/clock.ts';
import { throwIfAborted, cancellation } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';
import { copyTensors, tensorBytes, tensorFault, unshared, type Tensors } from '../base/tensor.ts';
import type { FetchStatus, Key, Lease, Loaded, MakeDraft, Partition, TierName } from '../cache/partition.ts';
import { tensorsForm } from '../cache/tensor-codec.ts';
import type { RunResult } from '../engines/engine.ts';
import { tell } from '../telemetry/channels.ts';
import { areFilled, type OutputForecast } from './output-forecast.ts';
import { requestKey, type ModelKey, type Parameters } from './request-key.ts';

/** How a request uses the results that are kept: `use` them, `refresh` computes anew and keeps that, `bypass` neither reads nor keeps. */
export type CacheMode = 'use' | 'refresh' | 'bypass';

/** What a request may be told. */
export interface RequestOptions {
  /** Names of the outputs wanted; all if left out. */
  readonly outputs?: readonly string[] | undefined;
  /** Further parameters of the request; they take part in its key. */
  readonly parameters?: Parameters | undefined;
  /** `use` if left out. */
  readonly cache?: CacheMode | undefined;
  /** Milliseconds this answer is kept, instead of what the model's settings say. */
  readonly ttlMs?: number | undefined;
  /** Whose request it is; tenants never share results. */
  readonly tenant?: string | undefined;
  /** Ends the wait of this caller, of nobody else. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds from now after which the wait ends with `ERR_INFERKV_DEADLINE`. */
  readonly deadlineMs?: number | undefined;
}

/** How an answer came about. */
export interface CacheReport {
  /** `hit` it was kept, `miss` it was computed for this request, `joined` an equal request's run served this one too, `bypass` it was computed without the cache. */
  readonly status: FetchStatus | 'bypass';
  readonly hit: boolean;
  /** Where a hit was found. */
  readonly tier: TierName | undefined;
  /** Names the answer in the cache; `undefined` where the cache was bypassed. */
  readonly key: Key | undefined;
  /** The version of the model that answered, where the repository has versions. */
  readonly version: string | undefined;
  /** Milliseconds that the run of the model took which gave the answer. */
  readonly costMs: number;
  /** Milliseconds from the request to its answer. */
  readonly elapsedMs: number;
  /** Milliseconds a hit saved: what the run took, less what the hit took; 0 otherwise. */
  readonly savedMs: number;
}

/** An answer whose tensors are the receiver's own. */
export interface Answer {
  readonly outputs: Tensors;
  readonly cache: CacheReport;
}

/** An answer whose tensors are the cache's: read-only by agreement, and gone after release. */
export interface LeasedAnswer extends Answer, Disposable {
  release(): void;
}

/** What tells a model's results from those of every other. */
export interface CachedIdentity {
  /** A name for people: in events and warnings. */
  readonly model: string;
  /** Its version in the repository, for people. */
  readonly version?: string | undefined;
  readonly modelKey: ModelKey;
  /** Labels by which its results are let go together. */
  readonly tags: readonly string[];
}

/** The tag of everything that was computed by a content. */
export function modelTag(digest: string): string {
  return `model:${digest}`;
}

/** The tag of everything that models of a name computed. */
export function nameTag(model: string): string {
  return `name:${model}`;
}

/** The tag of everything that a tenant asked for. */
export function tenantTag(tenant: string): string {
  return `tenant:${tenant}`;
}

/** What an answer is computed by, and under which name it is kept. */
export interface Computation extends CachedIdentity {
  /** `false` keeps nothing of this model. */
  readonly keeps: boolean;
  readonly ttlMs: number | undefined;
  readonly maxEntryBytes: number | undefined;
  /** Runs the model on the inputs that the key was made of; takes what is not shared memory before it first waits. */
  run(inputs: Tensors, signal: AbortSignal | undefined, into?: Tensors): Promise<RunResult>;
  /** What its outputs will be, for those that can be written where they are kept; if left out, they are copied there. */
  readonly forecast?: OutputForecast | undefined;
}

/** Reports a lease that was collected without having been released. It frees nothing: its bytes may still be read. */
const forgotten = new FinalizationRegistry<{ readonly model: string; readonly key: Key }>(({ model, key }) => {
  tell('inferkv:lease.forgotten', () => ({ model, key }));
  process.emitWarning(
    `A lease on a result of "${model}" was dropped without release(); its memory stays pinned. Use "using", or call release().`,
    { code: 'INFERKV_LEASE_FORGOTTEN' },
  );
});

/** Keeps what models answered: one run for many equal requests, every answer with what it saved. */
export class ResultCache {
  readonly #partition: Partition<Tensors>;
  readonly #clock: Clock;

  constructor(partition: Partition<Tensors>, clock: Clock) {
    this.#partition = partition;
    this.#clock = clock;
  }

  /** Lets go of what was kept under a tag. */
  invalidateTag(tag: string): number {
    return this.#partition.invalidateTag(tag);
  }

  /** The answer in private copies. */
  async answer(computation: Computation, inputs: Tensors, options: RequestOptions): Promise<Answer> {
    const start = this.#clock.now();
    checkRequest(options);
    if (!computation.keeps || options.cache === 'bypass') return this.#bypass(computation, inputs, options, start);
    const fetched = await this.#fetch(computation, inputs, options);
    const { lease } = fetched;
    try {
      const outputs = copyTensors(lease.value);
      return { outputs, cache: this.#report(computation, fetched, start) };
    } finally {
      lease.release();
    }
  }

  /** The answer as it lies in the cache, until released. */
  async lease(computation: Computation, inputs: Tensors, options: RequestOptions): Promise<LeasedAnswer> {
    const start = this.#clock.now();
    checkRequest(options);
    if (!computation.keeps || options.cache === 'bypass') {
      const answer = await this.#bypass(computation, inputs, options, start);
      return { ...answer, release: () => undefined, [Symbol.dispose]: () => undefined };
    }
    const fetched = await this.#fetch(computation, inputs, options);
    const { lease, key } = fetched;
    const token = {};
    const release = (): void => {
      forgotten.unregister(token);
      lease.release();
    };
    const answer: LeasedAnswer = {
      outputs: lease.value,
      cache: this.#report(computation, fetched, start),
      release,
      [Symbol.dispose]: release,
    };
    forgotten.register(answer, { model: computation.model, key }, token);
    return answer;
  }

  async #fetch(computation: Computation, given: Tensors, options: RequestOptions): Promise<KeyedFetch> {
    assertTensors(given);
    // Another thread may write to shared memory between key and run; the result would lie under the wrong name for ever.
    const inputs = unshared(given);
    const { outputs, parameters, tenant = '' } = options;
    const key = requestKey(computation.modelKey, { outputs, parameters, inputs, tenant });
    const { signal, dispose } = cancellation(options.signal, options.deadlineMs, this.#clock);
    try {
      throwIfAborted(signal);
      const tags = tagsOf(computation, options.tenant);
      const fetched = await this.#partition.fetch(
        key,
        (stop, draft) => load(computation, inputs, options, tags, stop, draft),
        { signal, refresh: options.cache === 'refresh', tags, tenant, group: computation.model },
      );
      return { ...fetched, key };
    } finally {
      dispose();
    }
  }

  async #bypass(computation: Computation, inputs: Tensors, options: RequestOptions, start: number): Promise<Answer> {
    const { signal, dispose } = cancellation(options.signal, options.deadlineMs, this.#clock);
    try {
      throwIfAborted(signal);
      const { outputs, computeMs } = await computation.run(inputs, signal);
      const elapsedMs = this.#clock.now() - start;
      tell('inferkv:answered', () => ({ model: computation.model, status: 'bypass', elapsedMs, savedMs: 0 }));
      return {
        outputs,
        cache: {
          status: 'bypass',
          hit: false,
          tier: undefined,
          key: undefined,
          version: computation.version,
          costMs: computeMs,
          elapsedMs,
          savedMs: 0,
        },
      };
    } finally {
      dispose();
    }
  }

  #report({ model, version }: Computation, { status, tier, key, lease }: KeyedFetch, start: number): CacheReport {
    const elapsedMs = this.#clock.now() - start;
    const hit = status === 'hit';
    const savedMs = hit ? Math.max(0, lease.costMs - elapsedMs) : 0;
    tell('inferkv:answered', () => ({ model, status, elapsedMs, savedMs }));
    return { status, hit, tier, key, version, costMs: lease.costMs, elapsedMs, savedMs };
  }
}

/** The labels by which a result is let go of together with others. */
function tagsOf({ tags, model }: Computation, tenant: string | undefined): readonly string[] {
  return [...tags, nameTag(model), ...(tenant === undefined ? [] : [tenantTag(tenant)])];
}

interface KeyedFetch {
  readonly lease: Lease<Tensors>;
  readonly status: FetchStatus;
  readonly tier: TierName | undefined;
  readonly key: Key;
}

async function load(
  computation: Computation,
  inputs: Tensors,
  options: RequestOptions,
  tags: readonly string[],
  signal: AbortSignal,
  makeDraft: MakeDraft<Tensors> | undefined,
): Promise<Loaded<Tensors>> {
  const { forecast } = computation;
  const forms = makeDraft === undefined ? undefined : forecast?.foresee(inputs, options.outputs);
  const draft = forms === undefined ? undefined : makeDraft?.(tensorsForm(forms));
  const run = await computation.run(inputs, signal, draft?.value);
  const { computeMs, reusable = true } = run;
  if (makeDraft !== undefined) forecast?.learn(inputs, options.outputs, run.outputs);
  const isFilled = draft !== undefined && areFilled(run.outputs, draft.value);
  // What does not fill the draft may still lie in it, in parts, and has to leave it.
  const outputs = draft === undefined || isFilled ? run.outputs : copyTensors(run.outputs);
  const sizeBytes = Object.values(outputs).reduce((sum, each) => sum + tensorBytes(each), 0);
  const keep = reusable && (computation.maxEntryBytes === undefined || sizeBytes <= computation.maxEntryBytes);
  const ttlMs = options.ttlMs ?? computation.ttlMs;
  const { tenant } = options;
  const facts = { sizeBytes, costMs: computeMs, tags, tenant, keep, ...(ttlMs !== undefined && { ttlMs }) };
  return { value: frozen(outputs), draft: isFilled ? draft : undefined, ...facts };
}

/** Leases hand out these very objects: what can be locked is. The numbers cannot. */
function frozen(outputs: Tensors): Tensors {
  for (const each of Object.values(outputs)) {
    Object.freeze(each.shape);
    Object.freeze(each);
  }
  return Object.freeze(outputs);
}

const CACHE_MODES: readonly unknown[] = ['use', 'refresh', 'bypass', undefined] satisfies (CacheMode | undefined)[];

/** @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for options of a kind that the types do not allow */
function checkRequest({ cache, outputs, tenant, parameters, ttlMs }: RequestOptions): void {
  const areNames =
    outputs === undefined || (Array.isArray(outputs) && outputs.every((name) => typeof name === 'string'));
  const faults = [
    !CACHE_MODES.includes(cache) && '"cache" must be "use", "refresh" or "bypass"',
    !areNames && '"outputs" must be a list of names',
    tenant !== undefined && typeof tenant !== 'string' && '"tenant" must be a text',
    parameters !== undefined &&
      (typeof parameters !== 'object' || parameters === null) &&
      '"parameters" must be a record',
    ttlMs !== undefined && !(typeof ttlMs === 'number' && ttlMs >= 0) && '"ttlMs" must be milliseconds from 0 up',
  ].filter((fault) => fault !== false);
  if (faults.length === 0) return;
  throw new InferkvError(
    'ERR_INFERKV_INPUT_INVALID',
    `The options of the request are not valid: ${faults.join('; ')}.`,
  );
}

/** @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for anything that is no tensor, before its bytes are read */
function assertTensors(inputs: unknown): asserts inputs is Tensors {
  if (typeof inputs !== 'object' || inputs === null || Array.isArray(inputs)) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', 'The inputs must be an object of tensors by name.');
  }
  for (const [name, each] of Object.entries(inputs)) {
    const fault = tensorFault(each);
    if (fault === undefined) continue;
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The input "${name}" ${fault}.`, { key: name });
  }
}
