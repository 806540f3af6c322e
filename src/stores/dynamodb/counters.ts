import type { WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { counterName, type FreshNumbers } from '../fresh-numbers.ts';
import type { OpenCalls } from '../open-calls.ts';
import type { EpochAuthority, GrantAuthority } from '../store.ts';
import { inTurn, readItems, type BatchParts, type Item } from './batches.ts';
import { numberOf, secondsOf, TTL_ATTRIBUTE } from './items.ts';

/** What counters need. */
export interface CounterParts extends BatchParts {
  readonly calls: OpenCalls;
  readonly prefix: string;
  readonly numbers: FreshNumbers;
  readonly wallClock: WallClock;
}

// A grant that nobody wants any more need not stay; its next token is a fresh number, greater by then than all before.
const KEEP_GRANTS_MS = 24 * 3600 * 1000;
const COUNTER_BYTES = 400;

/** What an update does, and when. */
interface Change {
  readonly update: string;
  readonly condition?: string;
  readonly values: Readonly<Record<string, number>>;
}

/**
 * Epochs as items, `v` each, raised by an update that is atomic. They never expire; one whose item is gone, with its table,
 * begins anew with a number that was never given (`fresh-numbers.ts`).
 */
export function createEpochs(parts: CounterParts): EpochAuthority {
  const { calls, prefix, numbers } = parts;
  const key = (scope: string): string => `${prefix}e:${counterName(scope)}`;
  const raise = async (scope: string, delta: number, signal: AbortSignal | undefined): Promise<number> => {
    const update = delta === 0 ? 'SET v = if_not_exists(v, :base)' : 'SET v = if_not_exists(v, :base) + :delta';
    const values = delta === 0 ? { base: numbers.next() } : { base: numbers.next(), delta };
    return counterOf(await change(parts, key(scope), { update, values }, signal), numbers);
  };
  return {
    read: (scopes, { signal } = {}) =>
      calls.run(signal, async () => {
        const items = await readItems(parts, scopes.map(key), COUNTER_BYTES, true, signal);
        const epochs: number[] = [];
        await inTurn(scopes, async (scope, at) => {
          const item = items.get(key(scope));
          epochs[at] = item === undefined ? await raise(scope, 0, signal) : counterOf(item, numbers);
        });
        return epochs;
      }),
    bump: (scopes, { signal } = {}) =>
      calls.run(signal, async () => {
        const epochs: number[] = [];
        await inTurn(scopes, async (scope, at) => void (epochs[at] = await raise(scope, 1, signal)));
        return epochs;
      }),
  };
}

/** Rights as items: `v` is the token granted last, `x` until when it is good, by the clock of whoever has it. */
export function createGrants(parts: CounterParts): GrantAuthority {
  const { calls, prefix, numbers, wallClock } = parts;
  const key = (name: string): string => `${prefix}g:${counterName(name)}`;
  const until = (ttlMs: number): number => Math.ceil(wallClock() + ttlMs);
  const now = (): number => Math.floor(wallClock());
  return {
    acquire: (name, ttlMs, { signal } = {}) =>
      calls.run(signal, async () => {
        const item = await change(
          parts,
          key(name),
          {
            update: 'SET v = if_not_exists(v, :base) + :one, x = :until',
            condition: 'attribute_not_exists(x) OR x <= :now',
            values: { base: numbers.next(), one: 1, until: until(ttlMs), now: now() },
          },
          signal,
        );
        return item === undefined ? undefined : counterOf(item, numbers);
      }),
    renew: (name, token, ttlMs, { signal } = {}) =>
      calls.run(signal, async () => {
        const item = await change(
          parts,
          key(name),
          {
            update: 'SET x = :until',
            condition: 'v = :token AND x > :now',
            values: { until: until(ttlMs), token, now: now() },
          },
          signal,
        );
        return item !== undefined;
      }),
    release: (name, token, { signal } = {}) =>
      calls.run(signal, async () => {
        const given = { update: 'SET x = :over', condition: 'v = :token', values: { over: 0, token } };
        await change(parts, key(name), given, signal);
      }),
  };
}

/** Changes an item, atomically; what it is now, or `undefined` if the condition does not hold. */
async function change(
  { sender, table, wallClock }: CounterParts,
  key: string,
  { update, condition, values }: Change,
  signal: AbortSignal | undefined,
): Promise<Item | undefined> {
  const isGrant = condition !== undefined;
  const all: Record<string, { N: string }> = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [`:${name}`, { N: String(value) }]),
  );
  if (isGrant) all[':gone'] = { N: secondsOf(Math.max(values['until'] ?? 0, wallClock()) + KEEP_GRANTS_MS) };
  const done = await sender.sendIf(signal, (client, sdk, options) =>
    client.send(
      new sdk.UpdateItemCommand({
        TableName: table,
        Key: { pk: { S: key } },
        UpdateExpression: isGrant ? `${update}, ${TTL_ATTRIBUTE} = :gone` : update,
        ...(isGrant ? { ConditionExpression: condition } : {}),
        ExpressionAttributeValues: all,
        ReturnValues: 'ALL_NEW',
      }),
      options,
    ),
  );
  return done === undefined ? undefined : (done.Attributes ?? {});
}

function counterOf(item: Item | undefined, numbers: FreshNumbers): number {
  const number = numberOf(item, 'v');
  if (Number.isSafeInteger(number) && number > 0) return numbers.seen(number);
  throw new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    'Something that is no counter came from DynamoDB under a name of ours; check the endpoint, or choose another prefix.',
  );
}
