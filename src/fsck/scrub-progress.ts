import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from '../util/write-whole.ts';

const schema = z.object({
  version: z.literal(1),
  /** ms since the epoch; of the last pass that was over. */
  finishedAt: z.number().optional(),
  /** Layers up to this one are checked, in a pass that is not over. */
  upTo: z.string().optional(),
});

export type ScrubState = Pick<z.infer<typeof schema>, 'finishedAt' | 'upTo'>;

/** How far the background check of the cache is, over restarts: `<root>/scrub`. Losing it costs a pass, no more. */
export class ScrubProgress {
  readonly #path: string;

  constructor(root: string) {
    this.#path = join(root, 'scrub');
  }

  /** Nothing is known where it is missing, damaged or of another version. */
  async read(): Promise<ScrubState> {
    try {
      return schema.parse(JSON.parse(await readFile(this.#path, 'utf8')));
    } catch {
      return {};
    }
  }

  /** Errors: those of the file system. */
  async write(state: ScrubState): Promise<void> {
    await writeWhole(this.#path, [Buffer.from(`${JSON.stringify({ version: 1, ...state })}\n`)]);
  }
}
