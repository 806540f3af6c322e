import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { decodeCtc } from './ctc.ts';
import { textBoxes } from './text-boxes.ts';

describe('reading text', () => {
  it('counts repetitions once, keeps doubled letters that a blank parts, and is as sure as its letters', () => {
    const characters = ['', 'a', 'b', ' '];
    const path = [0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 2];
    const rows = path.flatMap((best) => characters.map((_, at) => (at === best ? 0.7 : 0.1)));
    const { text, confidence } = decodeCtc(Float32Array.from(rows), characters);
    assert.equal(text, 'aab b');
    assert.ok(Math.abs(confidence - 0.7) < 1e-6);
    assert.deepEqual(decodeCtc(new Float32Array(0), characters), { text: '', confidence: 0 });
  });

  it('finds boxes by lines from above and from the left, widened within the image, and leaves out what is unsure', () => {
    const [width, height] = [100, 60];
    const probabilities = new Float32Array(width * height);
    const mark = (left: number, top: number, right: number, bottom: number, probability: number): void => {
      for (let y = top; y < bottom; y++) probabilities.fill(probability, y * width + left, y * width + right);
    };
    mark(60, 12, 90, 20, 0.9);
    mark(5, 10, 40, 20, 0.9);
    mark(0, 40, 30, 50, 0.9);
    mark(50, 40, 80, 50, 0.5);
    mark(95, 55, 97, 57, 0.9);
    const boxes = textBoxes({ width, height, probabilities });
    assert.deepEqual(
      boxes.map(({ left, top }) => [left, top]),
      [
        [0, 4],
        [55, 7],
        [0, 34],
      ],
    );
    assert.ok(boxes.every((box) => box.left + box.width <= width && box.top + box.height <= height));
  });
});
