/** Figures by name: milliseconds end in `_ms`, rates a second in `_per_s`, ratios say what is over what. */
export type Figures = Readonly<Record<string, number>>;

/** How a suite is to be run. */
export interface SuiteOptions {
  /** Fewer and shorter rounds: to see that it works, not to quote. */
  readonly quick: boolean;
  /** Tells a person what goes on; goes to standard error. */
  readonly progress: (text: string) => void;
}

/** A set of measurements that belong together. Whatever is compared is measured in turns within one run. */
export interface Suite {
  readonly name: string;
  readonly summary: string;
  run(options: SuiteOptions): Promise<Figures>;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** The value below which the share `of` of the values lies. */
export function percentile(values: readonly number[], of: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(of * sorted.length))] ?? Number.NaN;
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/**
 * Runs each contestant once a round, forwards and backwards in turn, so that none always comes first; gives every
 * contestant's times.
 */
export async function inTurns<Name extends string>(
  rounds: number,
  contestants: Readonly<Record<Name, (round: number) => Promise<unknown>>>,
): Promise<Readonly<Record<Name, readonly number[]>>> {
  const names = Object.keys(contestants) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      times[name].push(await timed(() => contestants[name](round)));
    }
  }
  return times;
}

/** Milliseconds from one tick of a 1 ms timer to the next, until `until` on `performance.now()`. */
export async function watchLoop(until: number): Promise<readonly number[]> {
  const gaps: number[] = [];
  for (let last = performance.now(); last < until;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }
  return gaps;
}
