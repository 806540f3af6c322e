import { InferkvError } from '../base/errors.ts';
import type { TraceFormat } from './format.ts';
import { adaptSize } from './formats/adapt-size.ts';
import { cache2k } from './formats/cache2k.ts';
import { libCacheSim } from './formats/libcachesim.ts';
import { lirs } from './formats/lirs.ts';
import { mooncake } from './formats/mooncake.ts';
import { recorded } from './formats/recorded.ts';

/** Every format there is; the first that a file looks like is taken. */
export const traceFormats: readonly TraceFormat[] = [recorded, mooncake, cache2k, libCacheSim, adaptSize, lirs];

/** @throws InferkvError `ERR_INFERKV_TRACE_INVALID`, which names those there are */
export function formatNamed(name: string): TraceFormat {
  const found = traceFormats.find((format) => format.name === name);
  if (found !== undefined) return found;
  throw new InferkvError(
    'ERR_INFERKV_TRACE_INVALID',
    `There is no trace format "${name}"; there are: ${namesOfAll()}.`,
  );
}

/** @throws InferkvError `ERR_INFERKV_TRACE_INVALID` if it looks like none of them */
export function formatOf(path: string, firstLine: string): TraceFormat {
  const found = traceFormats.find((format) => format.looksLike(firstLine));
  if (found !== undefined) return found;
  throw new InferkvError(
    'ERR_INFERKV_TRACE_INVALID',
    `${path}: it looks like none of the formats there are (${namesOfAll()}); name one by --format if it is.`,
    { key: path },
  );
}

function namesOfAll(): string {
  return traceFormats.map(({ name }) => name).join(', ');
}
