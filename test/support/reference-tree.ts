// The trees that a mount must equal, unpacked by other people's programs.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage, writeLayout } from './image-builder.ts';
import { runOk } from './run.ts';

/** `umoci raw unpack` of the layers into a new directory under `dir`; needs root. Returns the root file system's path. */
export async function unpackWithUmoci(dir: string, tars: readonly string[]): Promise<string> {
  await mkdir(dir, { recursive: true });
  const sources = tars.map((tar) => ({ tar, compression: 'gzip' as const }));
  const layout = join(dir, 'layout');
  await writeLayout(layout, 'reference', await buildImage(join(dir, 'blobs'), sources));
  const root = join(dir, 'umoci');
  await runOk('umoci', ['raw', 'unpack', '--image', `${layout}:reference`, root], { timeout: 120_000 });
  await rm(layout, { recursive: true });
  await rm(join(dir, 'blobs'), { recursive: true });
  return root;
}

/**
 * `tar -x` of layers without whiteouts, for what umoci cannot do: it writes holes out as zeros (a 5 GB file), and is
 * slow with tens of thousands of files.
 */
export async function unpackWithTar(dir: string, tars: readonly string[]): Promise<string> {
  const root = join(dir, 'tar');
  await mkdir(root, { recursive: true });
  for (const tar of tars) {
    const how = ['-x', '--sparse', '--xattrs', '--xattrs-include=*', '--same-owner', '--numeric-owner', '-p'];
    await runOk('tar', [...how, '-f', tar, '-C', root], { timeout: 120_000 });
  }
  return root;
}
