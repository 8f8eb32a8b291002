// What the daemon tells whoever has it pull an image: JSON lines, the first of them `started`, the last `ready` or `failed`.
import type { ProgressEvent } from '../observe/progress.ts';
import type { PulledImage } from '../snapshotter/pull/pull-to-containerd.ts';

export interface CredentialsQuestion {
  /** Unique within the pull. */
  readonly ask: number;
  /** As in a reference. */
  readonly host: string;
  readonly repository?: string | undefined;
  /** What was answered before is refused. */
  readonly fresh: boolean;
}

export type PullReport =
  /** `pull` is what answers name it by. */
  | { readonly kind: 'started'; readonly pull: string }
  | { readonly kind: 'progress'; readonly progress: ProgressEvent }
  | { readonly kind: 'warning'; readonly message: string }
  /** The user that was given is not remembered, for the reason `code`. */
  | { readonly kind: 'user-refused'; readonly code: string }
  /** Waits for an answer. */
  | ({ readonly kind: 'credentials' } & CredentialsQuestion)
  | { readonly kind: 'ready'; readonly image: PulledImage }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string };

export function parsePullReport(line: string): PullReport {
  return JSON.parse(line) as PullReport;
}
