// Which files of this machine become the demo's image: a base system with plenty in it, and Python with numpy on top.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, readdir, readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { CommandError } from '../errors.ts';

export interface InputLayer {
  readonly name: string;
  /** Absolute paths, parents before children; directories stand for themselves only. */
  readonly files: readonly string[];
  /** Bytes of the regular files. */
  readonly bytes: number;
}

const execute = promisify(execFile);
const python = '/usr/bin/python3';
const programs = [python, '/bin/sh', '/usr/bin/env', '/usr/bin/ls', '/usr/bin/cat'];
const bulkFolders = ['/usr/share', '/usr/lib/gcc', '/usr/include', '/usr/lib/x86_64-linux-gnu', '/usr/lib', '/usr/bin'];
const bulkBytes = 330 * 1024 * 1024;
const largestBulkFile = 48 * 1024 * 1024;

/** The two lower layers. Errors: CommandError when the machine has no Python or too few files. */
export async function chooseInputs(signal: AbortSignal): Promise<{ base: InputLayer; python: InputLayer }> {
  const pythonFiles = new FileSet();
  for (const folder of await pythonFolders()) await pythonFiles.addFolder(folder, Number.POSITIVE_INFINITY, signal);
  await pythonFiles.add(python);

  const base = new FileSet(pythonFiles);
  // The links of a merged /usr: without them no program finds its loader.
  for (const link of ['/bin', '/lib', '/lib64', '/sbin']) await base.add(link);
  const libraries = await librariesOf([...programs, ...pythonFiles.paths().filter((file) => file.endsWith('.so'))]);
  for (const file of [...programs, ...libraries, '/etc/os-release', '/etc/passwd']) await base.add(file);
  for (const folder of bulkFolders) await base.addFolder(folder, bulkBytes, signal);
  if (base.bytes + pythonFiles.bytes < 300 * 1024 * 1024) {
    throw new CommandError('this machine has less than 300 MB of files under /usr to make an image of');
  }
  return { base: base.layer('base'), python: pythonFiles.layer('python') };
}

/** Changes when a file of the machine does: path, type, size, time and link of everything. */
export async function fingerprint(layers: readonly InputLayer[], recipe: string): Promise<string> {
  const hash = createHash('sha256').update(recipe);
  for (const { name, files } of layers) {
    hash.update(`\n${name}\n`);
    for (const file of files) {
      const { mode, size, mtimeMs } = await lstat(file);
      hash.update(JSON.stringify([file, mode, size, mtimeMs]));
    }
  }
  return hash.digest('hex').slice(0, 32);
}

async function pythonFolders(): Promise<string[]> {
  const found = (await readdir('/usr/lib')).filter((name) => /^python3(\.\d+)?$/.test(name));
  const numpy = '/usr/lib/python3/dist-packages/numpy';
  if (found.length === 0 || !(await exists(python)) || !(await exists(numpy))) {
    throw new CommandError('the demo needs Debian packages python3 and python3-numpy: run scripts/setup as root');
  }
  return found.map((name) => `/usr/lib/${name}`);
}

/** Shared libraries that `files` load, as ldd prints them. */
async function librariesOf(files: readonly string[]): Promise<string[]> {
  // ldd exits 1 when one of the files is no dynamic program, and still answers for the others.
  const { stdout } = await execute('ldd', [...files], { maxBuffer: 64 * 1024 * 1024 }).catch(
    (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
  );
  return [...new Set([...stdout.matchAll(/(?:=>\s*|^\s+)(\/\S+)/gm)].map((match) => match[1] ?? ''))];
}

async function exists(file: string): Promise<boolean> {
  return lstat(file).then(
    () => true,
    () => false,
  );
}

class FileSet {
  bytes = 0;
  readonly #found = new Set<string>();
  readonly #below: FileSet | undefined;

  /** What `below` has is not taken again. */
  constructor(below?: FileSet) {
    this.#below = below;
  }

  #has(file: string): boolean {
    return this.#found.has(file) || (this.#below !== undefined && this.#below.#has(file));
  }

  paths(): string[] {
    return [...this.#found];
  }

  layer(name: string): InputLayer {
    // A parent sorts before its children because it is a prefix of them.
    return { name, files: this.paths().sort(), bytes: this.bytes };
  }

  /** One file with its parents and, for a symlink, what it points at. */
  async add(file: string): Promise<void> {
    const parent = path.dirname(file);
    const real = path.join(await realpath(parent), path.basename(file));
    if (this.#has(real)) return;
    const found = await lstat(real).catch(() => undefined);
    if (!found) return;
    await this.#parents(real);
    this.#take(real, found);
    if (found.isSymbolicLink()) await this.add(path.resolve(path.dirname(real), await readlink(real)));
  }

  /** Everything below `folder` in the order of the names, until the set has `limit` bytes. */
  async addFolder(folder: string, limit: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.bytes >= limit || !(await exists(folder))) return;
    await this.#parents(`${folder}/.`);
    const entries = await readdir(folder, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = path.join(folder, entry.name);
      if (this.bytes >= limit) return;
      if (this.#has(file)) continue;
      if (entry.isDirectory()) await this.addFolder(file, limit, signal);
      else if (entry.isFile() || entry.isSymbolicLink()) {
        const found = await lstat(file);
        if (found.size <= largestBulkFile) this.#take(file, found);
      }
    }
  }

  async #parents(file: string): Promise<void> {
    const parent = path.dirname(file);
    if (parent === '/' || this.#found.has(parent)) return;
    await this.#parents(parent);
    this.#found.add(parent);
  }

  #take(file: string, found: Stats): void {
    this.#found.add(file);
    if (found.isFile()) this.bytes += found.size;
  }
}
