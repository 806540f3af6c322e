import { TraceFault } from './format.ts';

const SHOWN_CHARACTERS = 40;

/** The start of something that stands in a trace, as a message shows it. */
export function shown(text: string): string {
  return JSON.stringify(text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text);
}

/** The same for a value of a JSON line. */
export function shownValue(value: unknown): string {
  return value === undefined ? 'missing' : shown(JSON.stringify(value));
}

/**
 * The object that a line is.
 *
 * @throws TraceFault if it is none
 */
export function objectOf(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new TraceFault(`${shown(line)} is no JSON object`);
}
