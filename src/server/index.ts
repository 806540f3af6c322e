/** `inferkv/server`: serves an inference cache over HTTP. */
export { createInferenceServer, type InferenceServer, type ServedCache, type ServerOptions } from './server.ts';
