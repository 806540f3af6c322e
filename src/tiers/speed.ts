// Weight of the newest measurement: some ten calls make up most of what is known.
const WEIGHT = 0.15;
const MIN_SAMPLES = 3;
// Shorter records tell the time of a call, longer ones what a byte takes.
const SMALL_BYTES = 16 * 1024;

/**
 * How long a call takes, by the length of what it moves: a time for the call itself and a time for each byte, both averages in
 * which the newest counts most.
 */
export class Speed {
  #callMs = 0;
  #byteMs = 0;
  #calls = 0;
  #bulks = 0;

  /** A call that moved so many bytes took so many milliseconds. */
  learn(bytes: number, tookMs: number): void {
    if (bytes <= SMALL_BYTES || this.#calls === 0) {
      this.#callMs = averaged(this.#callMs, tookMs, this.#calls);
      this.#calls++;
      if (bytes <= SMALL_BYTES) return;
    }
    this.#byteMs = averaged(this.#byteMs, Math.max(0, tookMs - this.#shareOfCall(tookMs)) / bytes, this.#bulks);
    this.#bulks++;
  }

  /** Milliseconds that a call which moves so many bytes is likely to take; `undefined` while too little is known. */
  expectedMs(bytes: number): number | undefined {
    if (this.#calls + this.#bulks < MIN_SAMPLES) return undefined;
    return this.#callMs + this.#byteMs * bytes;
  }

  /** Bytes a second of long records; `undefined` where none were moved. */
  get bytesPerSecond(): number | undefined {
    return this.#byteMs > 0 ? 1000 / this.#byteMs : undefined;
  }

  // A time for the call that was learnt in worse days must not make bytes cost nothing.
  #shareOfCall(tookMs: number): number {
    return Math.min(this.#callMs, tookMs / 2);
  }
}

function averaged(average: number, value: number, samples: number): number {
  return samples === 0 ? value : average + WEIGHT * (value - average);
}
