import type { Admission } from '../admission.ts';

class Always implements Admission {
  readonly name = 'always';

  record(): void {
    // Nothing to remember.
  }

  admits(): boolean {
    return true;
  }
}

/** Lets everything in: the policy alone decides. Remembers nothing. */
export function always(): Admission {
  return new Always();
}
