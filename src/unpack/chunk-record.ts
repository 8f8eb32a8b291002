// Which chunks of a blob are here, as text that is only ever appended to:
//
//   peel-chunks 1 <digest> <size> <chunk size>
//   <index> <sha256 of the chunk in hex>
//
// Of two lines about a chunk the later one counts. A line that is not whole, or makes no sense, is as good as none: what it says is checked against
// the bytes anyway. That is also why nothing here is made durable.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { Descriptor } from '../oci/descriptor.ts';
import { writeAll } from '../util/write-all.ts';
import { diskError } from './feed-errors.ts';

export class ChunkRecord {
  /** Bytes of each chunk but the last one: what the record was begun with. */
  readonly chunkSize: number;
  /** sha256 in hex, by the number of the chunk, as it was when it was opened. */
  readonly recorded: ReadonlyMap<number, string>;
  readonly #path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle, chunkSize: number, recorded: ReadonlyMap<number, string>) {
    this.#path = path;
    this.#file = file;
    this.chunkSize = chunkSize;
    this.recorded = recorded;
  }

  /** A record of another blob, or none, is begun anew, with `chunkSize`. Errors: ERR_UNPACK_DISK. */
  static async open(path: string, blob: Pick<Descriptor, 'digest' | 'size'>, chunkSize: number): Promise<ChunkRecord> {
    const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;
    let file: FileHandle | undefined;
    try {
      file = await open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
      const text = await file.readFile('latin1');
      const found = parse(text, blob);
      if (found !== undefined) {
        // The next line must not become the end of one that was cut off.
        await file.truncate(text.lastIndexOf('\n') + 1);
        return new ChunkRecord(path, file, found.chunkSize, found.recorded);
      }
      await file.truncate(0);
      await writeAll(file, [Buffer.from(`${titleOf(blob)} ${chunkSize}\n`)]);
      return new ChunkRecord(path, file, chunkSize, new Map());
    } catch (cause) {
      await file?.close();
      throw diskError(`cannot use ${path}`, cause);
    }
  }

  /** Errors: ERR_UNPACK_DISK. */
  async add(index: number, sha256: string): Promise<void> {
    try {
      await writeAll(this.#file, [Buffer.from(`${index} ${sha256}\n`)]);
    } catch (cause) {
      throw diskError(`cannot write ${this.#path}`, cause);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function titleOf({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): string {
  return `peel-chunks 1 ${digest} ${size}`;
}

function parse(
  text: string,
  blob: Pick<Descriptor, 'digest' | 'size'>,
): { chunkSize: number; recorded: Map<number, string> } | undefined {
  const [title = '', ...lines] = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  const expected = `${titleOf(blob)} `;
  const chunkSize = title.startsWith(expected) ? Number(title.slice(expected.length)) : 0;
  if (!Number.isSafeInteger(chunkSize) || chunkSize <= 0) return undefined;
  const recorded = new Map<number, string>();
  for (const line of lines) {
    const [, index, sha256] = /^(\d{1,10}) ([0-9a-f]{64})$/.exec(line) ?? [];
    if (index !== undefined && sha256 !== undefined) recorded.set(Number(index), sha256);
  }
  return { chunkSize, recorded };
}
