/** Connectionist temporal classification, best path: Graves et al., https://www.cs.toronto.edu/~graves/icml_2006.pdf */

/** A text, and how sure the model was of its characters on average. */
export interface DecodedText {
  readonly text: string;
  /** In [0, 1]. */
  readonly confidence: number;
}

/**
 * The likeliest character of every step, repetitions counted once, blanks left out.
 *
 * @param probabilities `[steps, characters.length]`, row by row
 * @param characters by class; class 0 is the blank
 */
export function decodeCtc(probabilities: Float32Array, characters: readonly string[]): DecodedText {
  const classes = characters.length;
  let text = '';
  let sum = 0;
  let count = 0;
  let last = 0;
  for (let from = 0; from + classes <= probabilities.length; from += classes) {
    let best = 0;
    for (let at = 1; at < classes; at++) {
      if ((probabilities[from + at] ?? 0) > (probabilities[from + best] ?? 0)) best = at;
    }
    if (best !== 0 && best !== last) {
      text += characters[best] ?? '';
      sum += probabilities[from + best] ?? 0;
      count++;
    }
    last = best;
  }
  return { text, confidence: count === 0 ? 0 : sum / count };
}
