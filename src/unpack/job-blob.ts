// The blob of one job: looked for when it is first wanted, and whole in the job's folder in the end, or not there at all.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlobFeed } from './blob-feed.ts';

export class JobBlob implements AsyncDisposable {
  readonly #folder: string;
  readonly #find: () => Promise<BlobFeed>;
  #feed: Promise<BlobFeed> | undefined;

  /** `folder`: the job's. */
  constructor(folder: string, find: () => Promise<BlobFeed>) {
    this.#folder = folder;
    this.#find = find;
  }

  /** The same each time. Errors: those of finding it. */
  open(): Promise<BlobFeed> {
    this.#feed ??= this.#find();
    return this.#feed;
  }

  /**
   * After a pass over the verified layer: what is in the folder may be kept as the layer's blob, for a part of it, of an earlier attempt or
   * because the disk was full in the end, goes. Errors: errno codes.
   */
  async verified(): Promise<void> {
    const feed = await this.#feed;
    if (feed?.kind === 'job' && (await feed.inFile?.()) === true) return;
    await removeBlob(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#feed?.then(
      (feed) => feed.close(),
      () => {},
    );
  }
}

/** Errors: errno codes. */
export async function removeBlob(folder: string): Promise<void> {
  // In this order, for a file without a record is begun anew.
  for (const name of ['chunks', 'blob']) await rm(join(folder, name), { force: true });
}
