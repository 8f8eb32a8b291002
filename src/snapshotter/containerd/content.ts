import type { Digest } from '../../oci/digest.ts';
import { Content } from '../gen/containerd/services/content/v1/content_pb.ts';
import type { Labels } from '../layer-provider.ts';
import { ContainerdError, isContainerdError } from './errors.ts';
import type { CallOptions, ContainerdSession } from './session.ts';

/** containerd refuses a label whose key and value are longer together. */
export const maxLabelBytes = 4096;

export function isLabel(key: string, value: string): boolean {
  return Buffer.byteLength(key) + Buffer.byteLength(value) <= maxLabelBytes;
}

/** Blobs by digest in one namespace. Writing is in `writeContent`. */
export class ContentService {
  readonly #session: ContainerdSession;

  constructor(session: ContainerdSession) {
    this.#session = session;
  }

  /** Undefined when the blob is not there. */
  async labels(digest: Digest, options?: CallOptions): Promise<Labels | undefined> {
    return (await this.#info(digest, options))?.labels;
  }

  /** Bytes of the blob; undefined when it is not there. */
  async size(digest: Digest, options?: CallOptions): Promise<number | undefined> {
    const info = await this.#info(digest, options);
    return info === undefined ? undefined : Number(info.size);
  }

  /** Those labels; others stay. */
  async setLabels(digest: Digest, labels: Labels, options?: CallOptions): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    // Without a path it would be all labels.
    if (paths.length === 0) return;
    const request = { info: { digest, labels: { ...labels } }, updateMask: { paths } };
    await this.#session.call(Content.method.update, `label ${digest}`, request, options);
  }

  /** A whole blob of at most `limit` bytes, not verified; undefined when it is not there. Errors: ERR_CONTAINERD_FAILED when it is larger. */
  async read(digest: Digest, limit: number, options?: CallOptions): Promise<Uint8Array | undefined> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    try {
      for await (const { data } of this.#session.stream(Content.method.read, `read ${digest}`, { digest }, options)) {
        size += data.length;
        if (size > limit)
          throw new ContainerdError(
            'ERR_CONTAINERD_FAILED',
            `${digest} in containerd is larger than the ${limit} bytes allowed`,
          );
        chunks.push(data);
      }
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) return undefined;
      throw error;
    }
    return Buffer.concat(chunks, size);
  }

  /** Bytes that an unfinished write has; undefined when there is none. */
  async written(ref: string, options?: CallOptions): Promise<number | undefined> {
    try {
      const { status } = await this.#session.call(Content.method.status, `look for the write ${ref}`, { ref }, options);
      return status === undefined ? undefined : Number(status.offset);
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** Throws an unfinished write away; nothing when there is none. */
  async abort(ref: string, options?: CallOptions): Promise<void> {
    try {
      await this.#session.call(Content.method.abort, `give up the write ${ref}`, { ref }, options);
    } catch (error) {
      if (!isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) throw error;
    }
  }

  async #info(digest: Digest, options: CallOptions | undefined) {
    try {
      const { info } = await this.#session.call(Content.method.info, `look for ${digest}`, { digest }, options);
      return info;
    } catch (error) {
      if (isContainerdError(error, 'ERR_CONTAINERD_NOT_FOUND')) return undefined;
      throw error;
    }
  }
}
