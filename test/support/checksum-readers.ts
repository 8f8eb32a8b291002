// Processes that read files and compare their checksums while something happens to whoever serves the files.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** The program of `ChecksumReader`, for who starts it elsewhere. */
export const checksumReader = new URL('checksum-reader.py', import.meta.url).pathname;

export interface ReaderSetting {
  /** Directory that the paths are below. */
  readonly root: string;
  readonly files: readonly (readonly [path: string, sha256: string])[];
  /** Each file once and in order, instead of any of them for ever. */
  readonly once?: boolean | undefined;
}

export interface ReaderReport {
  /** Whole files. */
  readonly reads: number;
  readonly bytes: number;
  readonly failed: readonly string[];
  readonly wrong: readonly string[];
  /** Seconds that one open(2) or read(2) took at most. */
  readonly longest: number;
}

/** One process. It never is the one that serves. */
export class ChecksumReader {
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;
  #isGone = false;
  #out = '';
  /** Reports that were taken from the output. */
  #taken = 0;

  constructor(setting: ReaderSetting) {
    this.#child = spawn('python3', [checksumReader], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#out += chunk.toString()));
    this.#gone = once(this.#child, 'close').then(() => void (this.#isGone = true));
    // One that has read everything reads no more.
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stdin?.write(`${JSON.stringify(setting)}\n`);
  }

  /** What it has read since the report before, after the file that it reads. Rejects when it has ended. */
  async report(): Promise<ReaderReport> {
    const taken = this.#taken++;
    this.#child.stdin?.write('\n');
    for (;;) {
      const line = this.#out.split('\n').slice(0, -1)[taken];
      if (line !== undefined) return JSON.parse(line) as ReaderReport;
      if (this.#isGone) throw new Error('the reader has ended');
      await Promise.race([this.#gone, once(this.#child.stdout as NodeJS.ReadableStream & NodeJS.EventEmitter, 'data')]);
    }
  }

  /** Ends it after the file that it reads. */
  async end(): Promise<ReaderReport> {
    this.#child.stdin?.end();
    return await this.done();
  }

  /** Waits for it to have read everything. What was not in a report before. */
  async done(): Promise<ReaderReport> {
    await this.#gone;
    return JSON.parse(this.#out.trimEnd().split('\n').at(-1) ?? '') as ReaderReport;
  }
}

/** Of all readers together. */
export function summed(reports: readonly ReaderReport[]): ReaderReport {
  return {
    reads: reports.reduce((sum, { reads }) => sum + reads, 0),
    bytes: reports.reduce((sum, { bytes }) => sum + bytes, 0),
    failed: reports.flatMap(({ failed }) => failed),
    wrong: reports.flatMap(({ wrong }) => wrong),
    longest: Math.max(0, ...reports.map(({ longest }) => longest)),
  };
}
