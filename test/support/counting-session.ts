import { tensor, type RunResult, type Session, type Tensors } from '../../src/index.ts';

/** A session whose answer follows from its input, so that a wrong one shows: `y[i] = 3 * x[0] + i`. */
export class CountingSession implements Session {
  readonly metadata: Session['metadata'] = {
    inputs: [{ name: 'x', type: 'float32', shape: [1] }],
    outputs: [{ name: 'y', type: 'float32', shape: [-1] }],
  };
  readonly sizeBytes = 1000;
  readonly elements: number;
  /** What a run says that it took. */
  computeMs = 1000;
  runs = 0;

  constructor(elements = 1000) {
    this.elements = elements;
  }

  async run(inputs: Tensors): Promise<RunResult> {
    this.runs++;
    const [x = 0] = inputs['x']?.data as Float32Array;
    const y = Float32Array.from({ length: this.elements }, (_, at) => 3 * x + at);
    return { outputs: { y: tensor(y, [this.elements]) }, computeMs: this.computeMs };
  }

  async close(): Promise<void> {
    // Nothing is held.
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The input that asks for the answer of a number. */
  static input(x: number): Tensors {
    return { x: tensor(Float32Array.of(x), [1]) };
  }

  /** Whether outputs are the answer of a number. */
  isAnswer(x: number, { y }: Tensors): boolean {
    const data = y?.data as Float32Array | undefined;
    return data?.length === this.elements && data.every((value, at) => value === 3 * x + at);
  }
}
