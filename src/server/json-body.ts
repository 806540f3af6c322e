import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';

import { InferkvError, messageOf } from '../base/errors.ts';
import type { RequestBody } from './body.ts';

/**
 * The JSON of a request's body, which may be empty; gives the body back.
 *
 * @throws InferkvError `ERR_INFERKV_BODY_INVALID`
 */
export function bodyOf<T>(request: FastifyRequest, schema: z.ZodType<T>): T {
  const body = request.body as RequestBody | undefined;
  try {
    const text = body === undefined ? '' : Buffer.from(body.bytes).toString('utf8').trim();
    return schema.parse(text === '' ? {} : JSON.parse(text));
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_BODY_INVALID', `The request is not valid: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    body?.release();
  }
}
