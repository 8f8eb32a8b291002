// Copies from an image to the file system. Every directory is held open and written through `/proc/self/fd`, so a symlink
// at the destination (an image may bring one, somebody else may plant one) is never followed.
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Image } from '../image/image.ts';
import type { TreeNode } from '../tree/tree.ts';
import { type ByteString, byteStringFromText, displayBytes } from '../util/byte-string.ts';
import type { CliContext } from './context.ts';
import { EntryWriter } from './copy-entry.ts';
import { CommandError } from './errors.ts';
import { baseName, type Located } from './image-path.ts';
import { readAhead } from './read-ahead.ts';
import { type WalkEntry, walkTree } from './walk.ts';

export interface Copied {
  readonly entries: number;
  /** Bytes written. */
  readonly bytes: number;
  /** Devices and owners that only root may make, as sentences. */
  readonly skipped: readonly string[];
}

interface OpenDir {
  readonly handle: FileHandle;
  /** Undefined for the directory that was there before. */
  readonly node: TreeNode | undefined;
}

export async function copyOut(request: {
  image: Image;
  start: Located;
  destination: string;
  context: CliContext;
}): Promise<Copied> {
  const { image, start, destination, context } = request;
  const target = await resolveTarget(start, destination);
  const writer = new EntryWriter({ asRoot: process.getuid?.() === 0 });
  const stack: OpenDir[] = [{ handle: await openDir(target.dir), node: undefined }];
  let entries = 0;
  try {
    const plan = planOf(start, target.name);
    for await (const { item, pieces } of readAhead(image, plan, ({ node }) => node, context.signal)) {
      context.signal.throwIfAborted();
      while (stack.length > item.depth + 1) await leave(stack, writer);
      const parent = stack.at(-1);
      if (!parent) throw new Error('the stack of open directories is empty');
      entries += 1;
      try {
        if (item.node.children) stack.push({ handle: await writer.directory(parent.handle, item), node: item.node });
        else await writer.entry(parent.handle, item, pieces());
      } catch (error) {
        throw named(error, `${destination}: cannot write ${displayBytes(item.path)} there`);
      }
      context.progress.report({ what: `copying to ${destination}`, done: writer.bytes, total: undefined });
    }
    while (stack.length > 1) await leave(stack, writer);
  } finally {
    for (const { handle } of stack) await handle.close();
  }
  for (const skipped of writer.skipped) context.warn(skipped);
  return { entries, bytes: writer.bytes, skipped: writer.skipped };
}

/** Depth 0 stands in the directory that was there before. Copying `/` copies what is in it. */
function* planOf(start: Located, name: ByteString): Generator<WalkEntry> {
  if (name === '') yield* walkTree(start.node, start.path);
  else {
    yield { name, path: start.path, node: start.node, depth: 0 };
    yield* walkTree(start.node, start.path, 1);
  }
}

/** Where the copy goes, as `cp -a` decides it: into a directory that exists, else under the name that was typed. */
async function resolveTarget(start: Located, destination: string): Promise<{ dir: string; name: ByteString }> {
  const existing = await statOrNothing(destination);
  if (existing?.isDirectory()) return { dir: destination, name: baseName(start.path) };
  const clean = path.resolve(destination);
  const link = await lstat(clean).catch(() => undefined);
  // A link onto a link replaces it, as `cp -a` does.
  if (link?.isSymbolicLink() && start.node.type !== 'symlink') {
    throw new CommandError(`${destination}: is a symlink, and cp does not write through one`, { code: 'ELOOP' });
  }
  if (start.node.children && existing) {
    throw new CommandError(`${destination}: exists and is not a directory`, { code: 'ENOTDIR' });
  }
  if (destination.endsWith('/') && !start.node.children) {
    throw new CommandError(`${destination}: no such directory`, { code: 'ENOENT' });
  }
  return { dir: path.dirname(clean), name: byteStringFromText(path.basename(clean)) };
}

async function statOrNothing(file: string): Promise<Stats | undefined> {
  try {
    return await stat(file);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw named(error, destinationProblem(file));
  }
}

async function openDir(dir: string): Promise<FileHandle> {
  try {
    return await open(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw named(error, destinationProblem(dir));
  }
}

function destinationProblem(file: string): string {
  return `${file}: cannot copy to there`;
}

/** An error of the file system with what it is about instead of our own way to it, `/proc/self/fd/…`; any other as it is. */
function named(error: unknown, what: string): unknown {
  if (!(error instanceof Error && 'syscall' in error && 'code' in error)) return error;
  const text = /^\w+: (.*?)(?:, \w+.*)?$/.exec(error.message)?.[1] ?? error.message;
  return new CommandError(`${what}: ${text.toLowerCase()}`, { code: String(error.code), cause: error });
}

async function leave(stack: OpenDir[], writer: EntryWriter): Promise<void> {
  const top = stack.pop();
  if (!top) return;
  try {
    if (top.node) await writer.finishDirectory(top.handle, top.node);
  } finally {
    await top.handle.close();
  }
}
