import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';

import { InferkvError, messageOf } from '../base/errors.ts';

const CHUNK_BYTES = 1 << 18;

/**
 * The bytes of a trace file, decompressed as its name says: `.gz`, `.zst`, `.xz` (by the system's `xz`), or none. Nothing is
 * read ahead of who reads, and whoever stops early leaves nothing behind.
 *
 * @throws InferkvError `ERR_INFERKV_TRACE_MISSING` if it cannot be read, `ERR_INFERKV_TRACE_INVALID` if it cannot be
 * decompressed
 */
export async function* chunksOf(path: string): AsyncGenerator<Buffer, void, void> {
  const file = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  let fileError: Error | undefined;
  file.on('error', (error) => (fileError = error));
  const { stream, ended } = decompressed(path, file);
  try {
    for await (const chunk of stream) yield chunk as Buffer;
    await ended;
  } catch (error) {
    if (fileError !== undefined) {
      throw new InferkvError('ERR_INFERKV_TRACE_MISSING', `${path} cannot be read: ${fileError.message}`, {
        cause: fileError,
        key: path,
      });
    }
    if (error instanceof InferkvError) throw error;
    throw new InferkvError(
      'ERR_INFERKV_TRACE_INVALID',
      `${path}: it cannot be decompressed (${messageOf(error)}); it may be cut off or of another kind than its name says.`,
      { cause: error, key: path },
    );
  } finally {
    stream.destroy();
    file.destroy();
  }
}

interface Decompressed {
  readonly stream: Readable;
  /** Rejects if what was read is not all there was. */
  readonly ended: Promise<void>;
}

function decompressed(path: string, file: Readable): Decompressed {
  const fine = Promise.resolve();
  // Errors come out of the last stream of a pipeline, where they are waited for.
  const through = (stream: NodeJS.ReadWriteStream): Readable =>
    pipeline(file, stream, () => undefined) as unknown as Readable;
  if (path.endsWith('.gz')) return { stream: through(createGunzip({ chunkSize: CHUNK_BYTES })), ended: fine };
  if (path.endsWith('.zst')) return { stream: through(createZstdDecompress({ chunkSize: CHUNK_BYTES })), ended: fine };
  return path.endsWith('.xz') ? byXz(path, file) : { stream: file, ended: fine };
}

function byXz(path: string, file: Readable): Decompressed {
  const xz = spawn('xz', ['--decompress', '--stdout'], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  xz.stderr.on('data', (chunk: Buffer) => {
    if (said.length < 1000) said += chunk.toString('utf8');
  });
  const ended = new Promise<void>((resolve, reject) => {
    xz.on('error', (error: NodeJS.ErrnoException) => {
      const isAbsent = error.code === 'ENOENT';
      const what = isAbsent
        ? 'reading .xz files takes the program xz, which is not on the path; install it (Debian: apt-get install xz-utils), or decompress the file first'
        : `xz failed: ${error.message}`;
      reject(new InferkvError('ERR_INFERKV_PEER_MISSING', `${path}: ${what}.`, { cause: error, key: path }));
    });
    xz.on('close', (code) => (code === 0 ? resolve() : reject(new Error(said.trim() || `xz ended with ${code}`))));
  });
  // Whoever stops reading early does not wait for the end.
  ended.catch(() => undefined);
  pipeline(file, xz.stdin, () => undefined);
  xz.stdout.on('close', () => xz.kill());
  return { stream: xz.stdout, ended };
}
