/**
 * A client written from the protocols' texts alone: the Open Inference Protocol v2 over REST (kserve/open-inference-protocol,
 * specification/protocol/inference_rest.md) and Triton's binary tensor data and model repository extensions
 * (triton-inference-server/server, docs/protocol). It shares no code with the server.
 */

/** Names of element types, and how one element is written little-endian into a buffer and read from it. */
const DATATYPES = {
  BOOL: {
    bytes: 1,
    write: (view, at, value) => view.setUint8(at, value === true ? 1 : 0),
    read: (view, at) => view.getUint8(at) === 1,
  },
  UINT8: {
    bytes: 1,
    write: (view, at, value) => view.setUint8(at, Number(value)),
    read: (view, at) => view.getUint8(at),
  },
  UINT16: {
    bytes: 2,
    write: (view, at, value) => view.setUint16(at, Number(value), true),
    read: (view, at) => view.getUint16(at, true),
  },
  UINT32: {
    bytes: 4,
    write: (view, at, value) => view.setUint32(at, Number(value), true),
    read: (view, at) => view.getUint32(at, true),
  },
  UINT64: {
    bytes: 8,
    write: (view, at, value) => view.setBigUint64(at, BigInt(value), true),
    read: (view, at) => view.getBigUint64(at, true),
  },
  INT8: { bytes: 1, write: (view, at, value) => view.setInt8(at, Number(value)), read: (view, at) => view.getInt8(at) },
  INT16: {
    bytes: 2,
    write: (view, at, value) => view.setInt16(at, Number(value), true),
    read: (view, at) => view.getInt16(at, true),
  },
  INT32: {
    bytes: 4,
    write: (view, at, value) => view.setInt32(at, Number(value), true),
    read: (view, at) => view.getInt32(at, true),
  },
  INT64: {
    bytes: 8,
    write: (view, at, value) => view.setBigInt64(at, BigInt(value), true),
    read: (view, at) => view.getBigInt64(at, true),
  },
  FP16: {
    bytes: 2,
    write: (view, at, value) => view.setFloat16(at, Number(value), true),
    read: (view, at) => view.getFloat16(at, true),
  },
  FP32: {
    bytes: 4,
    write: (view, at, value) => view.setFloat32(at, Number(value), true),
    read: (view, at) => view.getFloat32(at, true),
  },
  FP64: {
    bytes: 8,
    write: (view, at, value) => view.setFloat64(at, Number(value), true),
    read: (view, at) => view.getFloat64(at, true),
  },
} as const satisfies Record<string, ElementCodec>;

interface ElementCodec {
  readonly bytes: number;
  write(view: DataView, at: number, value: Value): void;
  read(view: DataView, at: number): Value;
}

/** One element of a tensor. */
export type Value = number | bigint | boolean | string;

/** A tensor as the protocol has it. */
export interface WireTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly values: readonly Value[];
}

/** What a request to a model is made of. */
export interface InferOptions {
  readonly id?: string;
  readonly version?: string;
  readonly parameters?: Readonly<Record<string, string | number | boolean>>;
  readonly outputs?: readonly { readonly name: string; readonly binary?: boolean }[];
  /** Sends the inputs as bytes behind the JSON. */
  readonly binaryInputs?: boolean;
  /** Asks for all outputs as bytes. */
  readonly binaryOutputs?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer of a model. */
export interface InferAnswer {
  readonly headers: Headers;
  readonly modelName: string;
  readonly modelVersion: string | undefined;
  readonly id: string | undefined;
  readonly outputs: readonly WireTensor[];
}

/** An error status, with the text of the protocol's error object. */
export class ProtocolError extends Error {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Readonly<Record<string, unknown>>;

  constructor(status: number, headers: Headers, body: Readonly<Record<string, unknown>>) {
    super(String(body['error']));
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
}

interface WireOutput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data?: readonly Value[];
  readonly parameters?: { readonly binary_data_size?: number };
}

interface WireResponse {
  readonly model_name: string;
  readonly model_version?: string;
  readonly id?: string;
  readonly outputs: readonly WireOutput[];
}

/** Talks to one server. */
export class ProtocolClient {
  readonly #address: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(address: string, apiKey?: string) {
    this.#address = address;
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  }

  async get<T>(path: string): Promise<T> {
    return (await (await this.#send('GET', path)).json()) as T;
  }

  async post<T>(path: string, body: object = {}): Promise<T> {
    return (await (await this.#send('POST', path, JSON.stringify(body))).json()) as T;
  }

  async infer(model: string, inputs: readonly WireTensor[], options: InferOptions = {}): Promise<InferAnswer> {
    const binary: Buffer[] = [];
    const request = {
      ...(options.id !== undefined && { id: options.id }),
      parameters: { ...options.parameters, ...(options.binaryOutputs === true && { binary_data_output: true }) },
      inputs: inputs.map(({ name, datatype, shape, values }) => {
        if (options.binaryInputs !== true) return { name, datatype, shape, data: values.map(jsonValue) };
        const bytes = encode(datatype, values);
        binary.push(bytes);
        return { name, datatype, shape, parameters: { binary_data_size: bytes.length } };
      }),
      ...(options.outputs !== undefined && {
        outputs: options.outputs.map(({ name, binary: asBytes }) => ({
          name,
          ...(asBytes !== undefined && { parameters: { binary_data: asBytes } }),
        })),
      }),
    };
    const json = Buffer.from(JSON.stringify(request));
    const version = options.version === undefined ? '' : `/versions/${options.version}`;
    const length = binary.length === 0 ? {} : { 'inference-header-content-length': String(json.length) };
    const path = `v2/models/${encodeURIComponent(model)}${version}/infer`;
    const response = await this.#send('POST', path, Buffer.concat([json, ...binary]), {
      ...length,
      ...options.headers,
    });
    return decodeAnswer(response);
  }

  async #send(
    method: string,
    path: string,
    body?: string | Uint8Array<ArrayBuffer>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    const response = await fetch(`${this.#address}/${path}`, {
      method,
      headers: { ...this.#headers, ...headers },
      ...(body !== undefined && { body }),
    });
    if (response.ok) return response;
    const text = await response.text();
    throw new ProtocolError(response.status, response.headers, JSON.parse(text) as Record<string, unknown>);
  }
}

async function decodeAnswer(response: Response): Promise<InferAnswer> {
  const body = Buffer.from(await response.arrayBuffer());
  const given = response.headers.get('inference-header-content-length');
  const jsonLength = given === null ? body.length : Number(given);
  const answer = JSON.parse(body.toString('utf8', 0, jsonLength)) as WireResponse;
  let at = jsonLength;
  const outputs = answer.outputs.map(({ name, datatype, shape, data, parameters }) => {
    const size = parameters?.binary_data_size;
    if (size === undefined) return { name, datatype, shape, values: data ?? [] };
    at += size;
    return { name, datatype, shape, values: decode(datatype, body.subarray(at - size, at)) };
  });
  if (at !== body.length) throw new Error(`The answer has ${body.length - at} bytes that no output claims.`);
  return {
    headers: response.headers,
    modelName: answer.model_name,
    modelVersion: answer.model_version,
    id: answer.id,
    outputs,
  };
}

function jsonValue(value: Value): Value {
  return typeof value === 'bigint' ? value.toString() : value;
}

function codecOf(datatype: string): ElementCodec {
  const codec = (DATATYPES as Readonly<Record<string, ElementCodec>>)[datatype];
  if (codec === undefined) throw new Error(`${datatype} is no datatype of the protocol.`);
  return codec;
}

function encode(datatype: string, values: readonly Value[]): Buffer {
  if (datatype === 'BYTES') {
    return Buffer.concat(
      values.flatMap((value) => {
        const text = Buffer.from(String(value));
        const length = Buffer.alloc(4);
        length.writeUInt32LE(text.length);
        return [length, text];
      }),
    );
  }
  const codec = codecOf(datatype);
  const buffer = Buffer.alloc(codec.bytes * values.length);
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  for (const [at, value] of values.entries()) codec.write(view, at * codec.bytes, value);
  return buffer;
}

function decode(datatype: string, bytes: Buffer): readonly Value[] {
  const values: Value[] = [];
  if (datatype === 'BYTES') {
    for (let at = 0; at < bytes.length;) {
      const to = at + 4 + bytes.readUInt32LE(at);
      values.push(bytes.toString('utf8', at + 4, to));
      at = to;
    }
    return values;
  }
  const codec = codecOf(datatype);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; at += codec.bytes) values.push(codec.read(view, at));
  return values;
}
