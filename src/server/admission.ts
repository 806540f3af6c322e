import { InferkvError } from '../base/errors.ts';

/** How many requests may be under way. */
export interface AdmissionLimits {
  readonly maxConcurrent: number;
  /** Of one tenant. */
  readonly maxConcurrentPerTenant: number;
}

/** Counts the requests under way, and refuses at once what is too many: a queue here would only hide it. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #byTenant = new Map<string, number>();
  #underWay = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get underWay(): number {
    return this.#underWay;
  }

  /**
   * Lets a request in; the function that comes back is called once, when it is over.
   *
   * @throws InferkvError `ERR_INFERKV_OVERLOADED` where the server has enough to do, `ERR_INFERKV_TENANT_BUSY` where the tenant has
   */
  enter(tenant: string): () => void {
    const { maxConcurrent, maxConcurrentPerTenant } = this.#limits;
    const ofTenant = this.#byTenant.get(tenant) ?? 0;
    if (this.#underWay >= maxConcurrent) {
      throw new InferkvError(
        'ERR_INFERKV_OVERLOADED',
        `The server answers ${this.#underWay} requests already, which is as many as it takes; try again later.`,
      );
    }
    if (ofTenant >= maxConcurrentPerTenant) {
      throw new InferkvError(
        'ERR_INFERKV_TENANT_BUSY',
        `${ofTenant} requests of yours are under way, which is as many as one tenant may have; wait for one to end.`,
      );
    }
    this.#underWay++;
    this.#byTenant.set(tenant, ofTenant + 1);
    return () => this.#leave(tenant);
  }

  #leave(tenant: string): void {
    this.#underWay--;
    const left = (this.#byTenant.get(tenant) ?? 1) - 1;
    if (left === 0) this.#byTenant.delete(tenant);
    else this.#byTenant.set(tenant, left);
  }
}
