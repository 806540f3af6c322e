const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/**
 * Bytes from a number, a size with a unit (`512MB`, `1.5 GiB`) or a share of `total` (`25%`).
 *
 * @returns `undefined` if the text is none of these, or not above zero
 */
export function parseBytes(value: number | string, total: number): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value > 0 ? Math.floor(value) : undefined;
  const match = /^\s*(?<amount>\d+(?:\.\d+)?)\s*(?<unit>%|[a-z]*)\s*$/i.exec(value);
  if (match?.groups === undefined) return undefined;
  const { amount, unit = '' } = match.groups;
  if (unit === '%' && Number(amount) > 100) return undefined;
  const factor = unit === '%' ? total / 100 : UNITS[unit === '' ? 'B' : unit.toUpperCase()];
  const bytes = factor === undefined ? 0 : Math.floor(Number(amount) * factor);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** Bytes for people: `102 MB`, `4.0 kB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let amount = bytes;
  while (amount >= 1000 && at < units.length - 1) {
    amount /= 1000;
    at++;
  }
  return `${amount >= 10 || at === 0 ? amount.toFixed(0) : amount.toFixed(1)} ${units[at]}`;
}
