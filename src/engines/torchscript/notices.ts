import type { Notice } from '../worker-protocol.ts';
import type { NativeRuntime } from './addon.ts';

/** What makes models slow that would be fast on the same machine. */
export function noticesOf({ blas, waitPolicy }: NativeRuntime): readonly Notice[] {
  const notices: Notice[] = [];
  if (blas === 'reference') {
    notices.push({
      code: 'INFERKV_TORCH_REFERENCE_BLAS',
      text: 'libtorch multiplies matrices by the reference BLAS, some twenty times slower than it could: on Debian or Ubuntu, apt-get install libopenblas0-pthread.',
    });
  }
  if (waitPolicy?.toLowerCase() !== 'passive') {
    notices.push({
      code: 'INFERKV_TORCH_BUSY_WAITING',
      text: 'Threads of libtorch spin while they wait, which can make runs many times slower when cores are contended: start the process with OMP_WAIT_POLICY=passive (outside of the main thread inferkv cannot set it by itself).',
    });
  }
  return notices;
}
