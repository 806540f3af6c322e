/**
 * Boxes around text from the map of a differentiable-binarisation detector (Liao et al., https://arxiv.org/abs/1911.08947):
 * regions above a threshold, kept if they are sure enough on average, and widened, as the detector is trained to mark text
 * smaller than it is. Boxes are upright: text that runs aslant is for a real OCR library.
 */
import type { Region } from '../images/image.ts';

/** Probabilities that there is text, row by row. */
export interface TextMap {
  readonly width: number;
  readonly height: number;
  readonly probabilities: Float32Array;
}

const PIXEL_THRESHOLD = 0.3;
const BOX_THRESHOLD = 0.6;
const MIN_SIDE = 3;
// How far a box is widened: its area times this over its circumference.
const UNCLIP_RATIO = 1.6;

interface Component {
  left: number;
  top: number;
  right: number;
  bottom: number;
  pixels: number;
  sum: number;
}

/** Boxes in the order in which one reads: by lines from above, within a line from the left. */
export function textBoxes(map: TextMap): readonly Region[] {
  const boxes = components(map)
    .filter(({ left, top, right, bottom, pixels, sum }) => {
      const isLarge = right - left >= MIN_SIDE && bottom - top >= MIN_SIDE;
      return isLarge && sum / pixels >= BOX_THRESHOLD;
    })
    .map((component) => widened(component, map));
  return inReadingOrder(boxes);
}

/** Groups of pixels above the threshold that touch each other, by flood fill. */
function components({ width, height, probabilities }: TextMap): readonly Component[] {
  const seen = new Uint8Array(width * height);
  const found: Component[] = [];
  const stack: number[] = [];
  for (let start = 0; start < seen.length; start++) {
    if (seen[start] === 1 || (probabilities[start] ?? 0) < PIXEL_THRESHOLD) continue;
    const component: Component = { left: width, top: height, right: -1, bottom: -1, pixels: 0, sum: 0 };
    seen[start] = 1;
    stack.push(start);
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const x = at % width;
      const y = (at - x) / width;
      take(component, x, y, probabilities[at] ?? 0);
      for (const next of neighbours(at, x, y, width, height)) {
        if (seen[next] === 1 || (probabilities[next] ?? 0) < PIXEL_THRESHOLD) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    found.push(component);
  }
  return found;
}

function take(component: Component, x: number, y: number, probability: number): void {
  component.left = Math.min(component.left, x);
  component.right = Math.max(component.right, x);
  component.top = Math.min(component.top, y);
  component.bottom = Math.max(component.bottom, y);
  component.pixels++;
  component.sum += probability;
}

function neighbours(at: number, x: number, y: number, width: number, height: number): readonly number[] {
  const next: number[] = [];
  if (x > 0) next.push(at - 1);
  if (x < width - 1) next.push(at + 1);
  if (y > 0) next.push(at - width);
  if (y < height - 1) next.push(at + width);
  return next;
}

function widened({ left, top, right, bottom }: Component, { width, height }: TextMap): Region {
  const [boxWidth, boxHeight] = [right - left + 1, bottom - top + 1];
  const by = Math.round((boxWidth * boxHeight * UNCLIP_RATIO) / (2 * (boxWidth + boxHeight)));
  const [x, y] = [Math.max(0, left - by), Math.max(0, top - by)];
  return {
    left: x,
    top: y,
    width: Math.min(width, right + by + 1) - x,
    height: Math.min(height, bottom + by + 1) - y,
  };
}

function inReadingOrder(boxes: readonly Region[]): readonly Region[] {
  const lines: Region[][] = [];
  for (const box of boxes.toSorted((a, b) => a.top - b.top)) {
    const middle = box.top + box.height / 2;
    const line = lines.find(([first]) => first !== undefined && middle < first.top + first.height);
    if (line === undefined) lines.push([box]);
    else line.push(box);
  }
  return lines.flatMap((line) => line.toSorted((a, b) => a.left - b.left));
}
