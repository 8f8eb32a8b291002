import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Digest } from '../oci/digest.ts';
import { type RootAttributes, treeBlockSize } from '../layer/index-job.ts';
import { removeTreeFile, writeTreeFile } from './tree-file.ts';

/** Raised when the same layer gives other bytes: what older releases compiled is then not found any more. */
const treeVersion = 1;

/** What a layer's tree is made of, and named after. */
export interface TreeInput {
  readonly digest: Digest;
  /** 32 bytes that stand for the index file. */
  readonly fingerprint: Uint8Array;
}

export interface KeyOptions {
  /** The lowest layer of an image; one over whatever; one over just these layers, lowest first. */
  readonly over: 'nothing' | 'anything' | readonly TreeInput[];
  readonly userXattr: boolean;
}

const attributes = z.object({ mode: z.int().min(0), uid: z.int().min(0), gid: z.int().min(0) });

const recordSchema = z.union([
  z.object({
    root: attributes.nullable(),
    /** Beside a tree that depends on the layers below: the key that sends those who look for it here. */
    sentBy: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  }),
  z.object({ below: z.string() }),
]);

/** `below`: no tree has this key, because it depends on the layers below; and why. */
export type TreeRecord =
  | { readonly root: RootAttributes | null; readonly sentBy?: string | undefined }
  | { readonly below: string };

/** `root`: the state directory. */
export function treesDir(root: string): string {
  return join(root, 'trees', 'sha256');
}

/** Trees of layers on disk: `<key>.erofs`, and beside it what is known of it without opening it. */
export class LayerTreeFiles {
  readonly #dir: string;

  constructor(root: string) {
    this.#dir = treesDir(root);
  }

  path(key: string): string {
    return join(this.#dir, `${key}.erofs`);
  }

  /** Undefined when there is no such tree, or not all of it. */
  async find(key: string): Promise<TreeRecord | undefined> {
    const [record, exists] = await Promise.all([this.#record(key), this.has(key)]);
    return record === undefined || 'below' in record || exists ? record : undefined;
  }

  /** Whether the tree itself is there. */
  async has(key: string): Promise<boolean> {
    return await stat(this.path(key)).then(
      () => true,
      () => false,
    );
  }

  /** Errors: those of the file system. */
  async write(key: string, image: Uint8Array, record: TreeRecord): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    // Durable with the tree: it says what `/` looks like, and nobody asks for a mounted tree to be made again.
    await this.#putRecord(key, record, { flush: true });
    await writeTreeFile(this.path(key), image);
  }

  /** That there is no such tree. A record that a power cut takes is made again: it is not synced. Errors: those of the file system. */
  async writeRecord(key: string, record: TreeRecord): Promise<void> {
    await this.#putRecord(key, record, { flush: false });
  }

  async #putRecord(key: string, record: TreeRecord, { flush }: { readonly flush: boolean }): Promise<void> {
    const path = this.#recordPath(key);
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      await writeFile(temporary, JSON.stringify(record), { mode: 0o600, flush });
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** Errors: those of the file system. */
  async remove(key: string): Promise<void> {
    const record = await this.#record(key);
    if (record !== undefined && 'root' in record && record.sentBy !== undefined) {
      await rm(this.#recordPath(record.sentBy), { force: true });
    }
    await rm(this.#recordPath(key), { force: true });
    await removeTreeFile(this.path(key));
  }

  async #record(key: string): Promise<TreeRecord | undefined> {
    try {
      return recordSchema.parse(JSON.parse(await readFile(this.#recordPath(key), 'utf8')));
    } catch {
      return undefined;
    }
  }

  #recordPath(key: string): string {
    return join(this.#dir, `${key}.json`);
  }
}

/** 64 hex digits. The same layers with the same indexes give the same tree. */
export function layerTreeKey(layer: TreeInput, { over, userXattr }: KeyOptions): string {
  const place = typeof over === 'string' ? over : 'these';
  const hash = createHash('sha256');
  hash.update(`peel layer tree ${treeVersion} ${treeBlockSize} over ${place}${userXattr ? ' userxattr' : ''}\n`);
  const below = typeof over === 'string' ? [] : over;
  for (const { digest, fingerprint } of [...below, layer]) {
    hash.update(`${digest} ${Buffer.from(fingerprint).toString('hex')}\n`);
  }
  return hash.digest('hex');
}
