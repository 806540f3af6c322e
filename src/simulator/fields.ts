import { TraceFault } from './format.ts';
import { shown } from './json-line.ts';

const ZERO = 48;
const NINE = 57;
const MINUS = 45;
/** Digits that a whole number may have and still be exact. */
const EXACT_DIGITS = 15;

/** Where the next field begins that is parted from the one before by blanks; `end` if there is none. */
export function skipBlanks(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] ?? 0) <= 32) at++;
  return at;
}

/** Where a field ends that begins at `start`. */
export function endOfWord(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] ?? 0) > 32) at++;
  return at;
}

/**
 * An entry's id: the number that stands there, or for anything else 53 bits of a hash of it. Two ids are taken for one
 * with a chance of one in a thousand for a hundred million different ones, which no hit rate shows.
 */
export function idOf(bytes: Buffer, start: number, end: number): number {
  if (end - start > 0 && end - start <= EXACT_DIGITS) {
    let number = 0;
    let at = start;
    for (; at < end; at++) {
      const digit = (bytes[at] ?? 0) - ZERO;
      if (digit < 0 || digit > 9) break;
      number = 10 * number + digit;
    }
    if (at === end) return number;
  }
  if (end === start) throw new TraceFault('an id is missing');
  return hashedId(bytes, start, end);
}

function hashedId(bytes: Buffer, start: number, end: number): number {
  let low = 0x811c9dc5;
  let high = 0x9e3779b9;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high ^ byte, 0x85ebca6b);
    high ^= high >>> 15;
  }
  low ^= low >>> 16;
  return (high & 0x1f_ffff) * 4_294_967_296 + (low >>> 0);
}

/**
 * The number of a field, which is not below zero.
 *
 * @throws TraceFault if it is none
 */
export function numberOf(what: string, bytes: Buffer, start: number, end: number): number {
  let number = 0;
  for (let at = start; at < end; at++) {
    const digit = bytes[at] ?? 0;
    if (digit < ZERO || digit > NINE || end - start > EXACT_DIGITS) return slowNumberOf(what, bytes, start, end);
    number = 10 * number + digit - ZERO;
  }
  return end > start ? number : slowNumberOf(what, bytes, start, end);
}

function slowNumberOf(what: string, bytes: Buffer, start: number, end: number): number {
  const text = bytes.toString('latin1', start, end);
  const number = text === '' ? Number.NaN : Number(text);
  if (Number.isFinite(number) && bytes[start] !== MINUS) return number;
  throw new TraceFault(`${what} ${shown(text)} is no number from zero on`);
}
