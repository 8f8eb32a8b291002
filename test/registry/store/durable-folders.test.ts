import { readdirSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { DirRegistry } from '../../../src/registry/dir-registry.ts';
import type { Registry } from '../../../src/registry/interface.ts';
import { LayoutRegistry } from '../../../src/registry/layout-registry.ts';
import { pushImage } from '../../support/registry-content.ts';
import { tempDir } from '../../support/tmp.ts';

/** The files and folders that are synced from now on, each when its sync has ended. */
async function watchSyncs(): Promise<string[]> {
  const synced: string[] = [];
  const handle = await open('/');
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const sync = Reflect.get(prototype, 'sync');
  prototype.sync = async function (this: FileHandle) {
    const name = readlinkSync(`/proc/self/fd/${this.fd}`);
    await sync.call(this);
    synced.push(name);
  };
  onTestFinished(() => void (prototype.sync = sync));
  return synced;
}

function foldersIn(dir: string): string[] {
  const entries = readdirSync(dir, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => path.join(entry.parentPath, entry.name));
}

const stores: readonly [string, (root: string) => Registry][] = [
  ['DirRegistry', (root) => new DirRegistry(root)],
  ['LayoutRegistry', (root) => new LayoutRegistry(root)],
];

it.each(stores)('%s makes its folders durable, once', async (_name, make) => {
  const dir = tempDir();
  const registry = make(path.join(dir, 'made/for/this'));
  const synced = await watchSyncs();
  await Promise.all(['v1', 'v2', 'v3'].map((tag) => pushImage(registry, 'org/a', tag)));
  const folders = foldersIn(dir);
  expect(folders.map((folder) => path.dirname(folder)).filter((parent) => !synced.includes(parent))).toEqual([]);
  synced.length = 0;
  await pushImage(registry, 'org/a', 'v4');
  const hasFiles = (folder: string) => readdirSync(folder, { withFileTypes: true }).some((entry) => entry.isFile());
  expect(folders.filter((folder) => synced.includes(folder) && !hasFiles(folder))).toEqual([]);
});

it('is done before the push of another that uses them is acknowledged', async () => {
  const dir = tempDir();
  const registry = new DirRegistry(dir);
  const synced = await watchSyncs();
  const parents = ['repositories', 'repositories/a', 'repositories/a/_blobs'].map((name) => path.join(dir, name));
  const unsynced = await Promise.all(
    Array.from({ length: 8 }, async () => {
      await pushImage(registry, 'a', undefined);
      return parents.filter((parent) => !synced.includes(parent));
    }),
  );
  expect(unsynced.flat()).toEqual([]);
});
