import type { PolicySeat } from './policy-seat.ts';

/** How much of a partition a tenant may take. */
export interface TenantLimits {
  /** Bytes of every tenant that `quotas` does not name; no limit if left out. */
  readonly maxTenantBytes?: number | undefined;
  /** Bytes by tenant. */
  readonly quotas?: Readonly<Record<string, number>> | undefined;
}

/** What one tenant has in a partition, and had. */
export interface TenantStats {
  readonly tenant: string;
  readonly entries: number;
  readonly usedBytes: number;
  /** `Infinity` without a quota. */
  readonly quotaBytes: number;
  /** Reads of its entries. */
  readonly hits: number;
  /** Entries that left for want of room, of the partition or of its quota. */
  readonly evictions: number;
  readonly refusals: number;
  /** Milliseconds that reads made unnecessary. */
  readonly savedMs: number;
}

/** One tenant's account in a partition. Hits and what they saved are of entries that have left; the rest is counted when asked. */
export class TenantAccount {
  readonly tenant: string;
  readonly quotaBytes: number;
  /** Chooses among this tenant's own entries; only with a quota. */
  readonly seat: PolicySeat | undefined;
  entries = 0;
  usedBytes = 0;
  departedHits = 0;
  departedSavedMs = 0;
  evictions = 0;
  refusals = 0;

  constructor(tenant: string, quotaBytes: number, seat: PolicySeat | undefined) {
    this.tenant = tenant;
    this.quotaBytes = quotaBytes;
    this.seat = seat;
  }
}

// Beyond this many, an account is dropped with its last entry, and what it counted with it.
const MAX_ACCOUNTS = 1024;

/**
 * The accounts of a partition's tenants: as many as have entries, and up to 1,024 in all that had some. A tenant with a
 * quota has a policy of its own beside the partition's: past its quota it loses what that policy would evict among its own entries.
 */
export class Tenants {
  /** Whether any tenant may have a quota; where none may, uses need not be told to their policies. */
  readonly haveQuotas: boolean;
  readonly #limits: TenantLimits;
  readonly #seat: (quotaBytes: number) => PolicySeat;
  readonly #accounts = new Map<string, TenantAccount>();

  constructor(limits: TenantLimits, seat: (quotaBytes: number) => PolicySeat) {
    this.#limits = limits;
    this.#seat = seat;
    this.haveQuotas = limits.maxTenantBytes !== undefined || Object.keys(limits.quotas ?? {}).length > 0;
  }

  /** The account of a tenant, opened at the first call. */
  of(tenant: string): TenantAccount {
    const known = this.#accounts.get(tenant);
    if (known !== undefined) return known;
    const quotaBytes = this.#quotaOf(tenant);
    const seat = quotaBytes === Number.POSITIVE_INFINITY ? undefined : this.#seat(quotaBytes);
    const account = new TenantAccount(tenant, quotaBytes, seat);
    this.#accounts.set(tenant, account);
    return account;
  }

  /** Drops the account of a tenant that has nothing here any more, if there are many. */
  close({ tenant, entries }: TenantAccount): void {
    if (entries === 0 && this.#accounts.size > MAX_ACCOUNTS) this.#accounts.delete(tenant);
  }

  all(): IterableIterator<TenantAccount> {
    return this.#accounts.values();
  }

  #quotaOf(tenant: string): number {
    const { quotas = {}, maxTenantBytes = Number.POSITIVE_INFINITY } = this.#limits;
    return Object.hasOwn(quotas, tenant) ? (quotas[tenant] as number) : maxTenantBytes;
  }
}
