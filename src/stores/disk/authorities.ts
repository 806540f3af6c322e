import type { WallClock } from '../../base/clock.ts';
import type { CallOptions, EpochAuthority, GrantAuthority } from '../store.ts';
import type { IndexDb } from './index-db.ts';

/** Does something with the index in one step, alone among all processes. */
export type Transact = <T>(work: () => T, options: CallOptions | undefined) => Promise<T>;

/** Epochs in the index of a folder: for all processes of a machine. */
export function diskEpochs({ facts }: IndexDb, transact: Transact): EpochAuthority {
  const numberOf = (scope: string): number => (facts.get(`epoch:${scope}`) ?? facts.get('base')) as number;
  return {
    read: (scopes, options) => transact(() => scopes.map(numberOf), options),
    bump: (scopes, options) =>
      transact(
        () =>
          scopes.map((scope) => {
            const epoch = numberOf(scope) + 1;
            facts.putSync(`epoch:${scope}`, epoch);
            return epoch;
          }),
        options,
      ),
  };
}

interface Right {
  readonly token: number;
  readonly until: number;
}

/** Rights in the index of a folder, by the machine's clock. */
export function diskGrants({ facts }: IndexDb, transact: Transact, wallClock: WallClock): GrantAuthority {
  const rightOf = (name: string): Right | undefined => {
    const right = facts.get(`right:${name}`) as Right | undefined;
    return right === undefined || right.until <= wallClock() ? undefined : right;
  };
  return {
    acquire: (name, ttlMs, options) =>
      transact(() => {
        if (rightOf(name) !== undefined) return undefined;
        const token = Math.max(((facts.get('token') as number | undefined) ?? 0) + 1, Math.floor(wallClock()));
        facts.putSync('token', token);
        facts.putSync(`right:${name}`, { token, until: wallClock() + ttlMs });
        return token;
      }, options),
    renew: (name, token, ttlMs, options) =>
      transact(() => {
        if (rightOf(name)?.token !== token) return false;
        facts.putSync(`right:${name}`, { token, until: wallClock() + ttlMs });
        return true;
      }, options),
    release: (name, token, options) =>
      transact(() => {
        if ((facts.get(`right:${name}`) as Right | undefined)?.token === token) facts.removeSync(`right:${name}`);
      }, options),
  };
}
