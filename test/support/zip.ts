/** Zip archives for tests, right or wrong in any field. */
import { crc32, deflateRawSync } from 'node:zlib';

/** An entry; whatever is given beside its content is written as it stands, true or not. */
export interface ZipEntry {
  readonly name: string;
  readonly content: Uint8Array;
  readonly deflate?: boolean;
  readonly crc?: number;
  readonly sizeBytes?: number;
  readonly flags?: number;
  readonly localName?: string;
}

export function zip(...entries: readonly ZipEntry[]): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, content, deflate = false, localName = name, ...given } of entries) {
    const packed = deflate ? deflateRawSync(content, { level: 9 }) : Buffer.from(content);
    const { crc = crc32(content), sizeBytes = content.byteLength, flags = 0 } = given;
    const fields = numbers([flags, 2], [deflate ? 8 : 0, 2], [0, 4], [crc, 4], [packed.length, 4], [sizeBytes, 4]);
    const local = Buffer.concat([
      numbers([0x04034b50, 4], [20, 2]),
      fields,
      numbers([Buffer.byteLength(localName), 2], [0, 2]),
      Buffer.from(localName),
      packed,
    ]);
    directory.push(
      numbers([0x02014b50, 4], [20, 2], [20, 2]),
      fields,
      numbers([Buffer.byteLength(name), 2], [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]),
      Buffer.from(name),
    );
    bodies.push(local);
    at += local.length;
  }
  const central = Buffer.concat(directory);
  const count = entries.length;
  const end = numbers([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [central.length, 4], [at, 4], [0, 2]);
  return Buffer.concat([...bodies, central, end]);
}

function numbers(...values: readonly (readonly [value: number, bytes: number])[]): Buffer {
  return Buffer.concat(
    values.map(([value, bytes]) => {
      const buffer = Buffer.alloc(bytes);
      buffer.writeUIntLE(value >>> 0, 0, bytes);
      return buffer;
    }),
  );
}
