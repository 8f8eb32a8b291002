// Images that run: a shell and a few programs of this machine, and data on top of them.
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { BuiltImage, Compression } from './image-builder.ts';
import { run, runOk } from './run.ts';
import { type BuiltMember, archive } from './tar-builder.ts';
import { type TestRegistry, layersOf } from './test-registry.ts';

const names = 'sh cat chmod cp head ln ls mkdir mv rm rmdir sha256sum sleep stat touch';
const programs = names.split(' ').map((name) => `/usr/bin/${name}`);

/** Writes the layer that every image of a test begins with; 2 MB compressed. Returns `tar`. */
export async function shellLayer(tar: string): Promise<string> {
  const found = new Set<string>(['bin', 'lib', 'lib64']);
  const { out } = await run('ldd', programs);
  const libraries = [...out.matchAll(/(?:=>\s*|^\s+)(\/\S+)/gm)].map((match) => match[1] ?? '');
  for (const file of new Set([...programs, ...libraries])) {
    const place = path.join(await realpath(path.dirname(file)), path.basename(file));
    for (const real of [place, await realpath(place)]) addWithParents(found, real.slice(1));
  }
  await mkdir(path.dirname(tar), { recursive: true });
  const options = ['--no-recursion', '--numeric-owner', '--sort=name'];
  await runOk('tar', ['-C', '/', ...options, '-cf', tar, '-T', '-'], { input: [...found].sort().join('\n') });
  return tar;
}

function addWithParents(found: Set<string>, file: string): void {
  const parent = path.dirname(file);
  if (parent !== '.') addWithParents(found, parent);
  found.add(file);
}

/** Writes a layer of these members. Returns `tar`. */
export async function memberLayer(tar: string, members: readonly BuiltMember[]): Promise<string> {
  await mkdir(path.dirname(tar), { recursive: true });
  await writeFile(tar, archive(...members));
  return tar;
}

export interface PushedImage extends BuiltImage {
  /** `host:port/name:latest` */
  readonly reference: string;
  /** Bytes of all layer blobs. */
  readonly layerBytes: number;
}

/** Pushes an image of these tars. */
export async function pushContainerImage(
  registry: TestRegistry,
  name: string,
  tars: readonly string[],
  compression: Compression = 'gzip',
): Promise<PushedImage> {
  const image = await registry.push(name, layersOf(tars, compression));
  const layerBytes = image.layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  return { ...image, reference: registry.reference(name), layerBytes };
}

/** Bytes of the image's layers that the registry has sent since its front forgot. */
export function layerBytesSent({ front }: TestRegistry, image: BuiltImage): number {
  return image.layers.reduce((sum, { descriptor }) => sum + front.bytes(descriptor.digest), 0);
}
