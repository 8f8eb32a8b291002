// What a registry was asked for and what it sent, counted where the bytes leave.
import type { Digest } from '../../oci/digest.ts';

export interface RequestRecord {
  readonly method: string;
  /** Path and query as sent, the first 1 024 characters. */
  readonly url: string;
  readonly status: number;
  /** Of a blob or a manifest asked for by digest. */
  readonly digest: Digest | undefined;
  readonly kind: string;
  /** The Range header. */
  readonly range: string | undefined;
  /** Bytes of the answer's body. */
  readonly bytes: number;
  /** Bytes of the request's body. */
  readonly received: number;
  readonly durationMs: number;
}

export interface DigestCount {
  readonly requests: number;
  readonly bytes: number;
}

const maxRecords = 10_000;
const maxUrlLength = 1_024;
/** Whoever asks may ask for any digest. */
const maxDigests = 20_000;

export class ServerStats {
  #requests = 0;
  #bytes = 0;
  #blobBytes = 0;
  #byDigest = new Map<Digest, DigestCount>();
  #byMethod = new Map<string, number>();
  #log: RequestRecord[] = [];

  /** Since the start or the last `reset`. */
  get requests(): number {
    return this.#requests;
  }

  /** Bytes of all answers' bodies. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of blobs alone: what crossed the network of the layers, configs and indexes. */
  get blobBytes(): number {
    return this.#blobBytes;
  }

  /** GETs of blobs and the bytes sent of each; of more than 20 000 blobs those are forgotten that were asked for first. */
  get byDigest(): ReadonlyMap<Digest, DigestCount> {
    return this.#byDigest;
  }

  get byMethod(): ReadonlyMap<string, number> {
    return this.#byMethod;
  }

  /** The last 10 000 requests, in the order in which they came; `status` 0 until the answer begins. */
  get log(): readonly RequestRecord[] {
    return this.#log;
  }

  /** A request whose head is in. What it asked for and each byte of its answer count at once, its status when it has ended. */
  begin(asked: Pick<RequestRecord, 'method' | 'url' | 'kind' | 'digest' | 'range'>): RequestCount {
    const record = { ...asked, url: beginningOf(asked.url), status: 0, bytes: 0, received: 0, durationMs: 0 };
    const isBlob = asked.kind === 'blob' && asked.method === 'GET';
    const started = performance.now();
    this.#requests += 1;
    this.#byMethod.set(asked.method, (this.#byMethod.get(asked.method) ?? 0) + 1);
    if (isBlob) this.#countDigest(asked.digest, 1, 0);
    this.#log.push(record);
    if (this.#log.length > maxRecords) this.#log.shift();
    const addBytes = (bytes: number) => {
      record.bytes += bytes;
      this.#bytes += bytes;
      // An error's text is no part of a blob.
      if (!isBlob || (record.status !== 200 && record.status !== 206)) return;
      this.#blobBytes += bytes;
      this.#countDigest(asked.digest, 0, bytes);
    };
    return {
      addBytes,
      addReceived: (bytes) => void (record.received += bytes),
      setStatus: (status) => void (record.status = status),
      end: () => Object.assign(record, { durationMs: performance.now() - started }),
    };
  }

  reset(): void {
    this.#requests = 0;
    this.#bytes = 0;
    this.#blobBytes = 0;
    this.#byDigest = new Map();
    this.#byMethod = new Map();
    this.#log = [];
  }

  #countDigest(digest: Digest | undefined, requests: number, bytes: number): void {
    if (digest === undefined) return;
    const before = this.#byDigest.get(digest) ?? { requests: 0, bytes: 0 };
    this.#byDigest.set(digest, { requests: before.requests + requests, bytes: before.bytes + bytes });
    for (const oldest of this.#byDigest.keys()) {
      if (this.#byDigest.size <= maxDigests) return;
      this.#byDigest.delete(oldest);
    }
  }
}

/** A copy: a slice would keep all of the text in memory. */
function beginningOf(url: string): string {
  return url.length <= maxUrlLength ? url : Buffer.from(url.slice(0, maxUrlLength)).toString();
}

export interface RequestCount {
  addBytes(bytes: number): void;
  addReceived(bytes: number): void;
  setStatus(status: number): void;
  end(): RequestRecord;
}
