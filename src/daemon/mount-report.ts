// What whoever serves a mount tells whoever waits for it: JSON lines, the last of them `ready` or `failed`.
import type { Progress } from '../image/image.ts';

export type MountReport =
  | { readonly kind: 'progress'; readonly progress: Progress }
  | { readonly kind: 'ready'; readonly mount: Readonly<Record<string, unknown>>; readonly warnings: readonly string[] }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly usage: boolean };

export function parseMountReport(line: string): MountReport {
  return JSON.parse(line) as MountReport;
}
