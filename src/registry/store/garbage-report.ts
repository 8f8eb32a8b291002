import type { CallOptions } from '../interface.ts';

export interface GarbageOptions extends CallOptions {
  /** The period of grace in ms: what was written, pushed or asked for since is kept. An hour is more than any push needs between two requests. */
  readonly olderThanMs: number;
  /** Also manifests that no tag, no kept index and no kept subject leads to. */
  readonly untagged?: boolean | undefined;
  /** Only reports what would be removed. */
  readonly dryRun?: boolean | undefined;
}

export interface GarbageCount {
  readonly count: number;
  readonly bytes: number;
}

export interface GarbageReport {
  /** Uploads that nobody continued. */
  readonly uploads: GarbageCount;
  /** Files that were half written when their process was killed. */
  readonly temporary: GarbageCount;
  /** Manifests of a repository. Their bytes are freed with `content`, once no other repository has them; so are those of `blobs`. */
  readonly manifests: GarbageCount;
  /** Blobs of a repository that none of its manifests needs. */
  readonly blobs: GarbageCount;
  /** Entries in lists of referrers whose manifest is gone. */
  readonly referrers: GarbageCount;
  /** Content that no repository has: what is freed on disk, besides uploads and temporary files. */
  readonly content: GarbageCount;
  /** Repositories that were empty. */
  readonly repositories: number;
}

export const garbageKinds = ['uploads', 'temporary', 'manifests', 'blobs', 'referrers', 'content'] as const;
export type GarbageKind = (typeof garbageKinds)[number];
