// The demo's image as an OCI layout, built once and kept until a file of the machine that it is made of changes.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Descriptor } from '../../oci/descriptor.ts';
import { digestFromSha256, digestHex } from '../../oci/digest.ts';
import { mediaTypes } from '../../oci/media-type.ts';
import { hostPlatform } from '../../oci/platform.ts';
import { applicationRecipe, programPath, stageApplication } from './application.ts';
import { runChild } from './child.ts';
import { chooseInputs, fingerprint } from './inputs.ts';
import { type LayerBlob, type LayerFiles, packLayer } from './layer-blob.ts';

export interface DemoImage {
  /** An OCI layout with one image, tagged `demo`. */
  readonly layout: string;
  readonly manifest: Descriptor;
  readonly layers: readonly LayerBlob[];
}

const formatVersion = 1;

/** `say` is told what is being done when it takes long. */
export async function demoImage(store: string, say: (text: string) => void, signal: AbortSignal): Promise<DemoImage> {
  const { base, python } = await chooseInputs(signal);
  const key = await fingerprint([base, python], `${formatVersion} ${applicationRecipe}`);
  const layout = path.join(store, key);
  const kept = await readKept(layout);
  if (kept) return kept;

  say(`packing ${base.files.length + python.files.length} files of this machine into an image (once)`);
  await removeOthers(store);
  const work = path.join(store, `${key}.building`);
  const blobs = path.join(work, 'blobs', 'sha256');
  try {
    await mkdir(blobs, { recursive: true });
    const applications = await stageApplication(path.join(work, 'staging'));
    const sources: LayerFiles[] = [
      { folder: '/', names: base.files.map((file) => file.slice(1)) },
      { folder: '/', names: python.files.map((file) => file.slice(1)) },
      ...(await Promise.all(applications.map(wholeFolder))),
    ];
    const compressor = (await hasProgram('pigz')) ? 'pigz' : 'gzip';
    const layers: LayerBlob[] = [];
    for (const source of sources) layers.push(await packLayer(source, blobs, compressor, signal));
    const manifest = await writeManifest(work, blobs, layers);
    await rm(path.join(work, 'staging'), { recursive: true });
    await writeFile(path.join(work, 'demo.json'), JSON.stringify({ manifest, layers }));
    await rename(work, layout);
    return { layout, manifest, layers };
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
}

async function readKept(layout: string): Promise<DemoImage | undefined> {
  try {
    const { manifest, layers } = JSON.parse(await readFile(path.join(layout, 'demo.json'), 'utf8')) as DemoImage;
    return { layout, manifest, layers };
  } catch {
    return undefined;
  }
}

/** One image is kept: the machine changes, and each is hundreds of megabytes. */
async function removeOthers(store: string): Promise<void> {
  await mkdir(store, { recursive: true, mode: 0o700 });
  for (const name of await readdir(store)) {
    if (/^[0-9a-f]{32}(\.building)?$/.test(name)) await rm(path.join(store, name), { recursive: true });
  }
}

async function wholeFolder(folder: string): Promise<LayerFiles> {
  const names = await readdir(folder, { recursive: true });
  return { folder, names: names.sort() };
}

async function writeManifest(work: string, blobs: string, layers: readonly LayerBlob[]): Promise<Descriptor> {
  const put = async (mediaType: string, value: unknown): Promise<Descriptor> => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = digestFromSha256(createHash('sha256').update(bytes).digest());
    await writeFile(path.join(blobs, digestHex(digest)), bytes);
    return { mediaType, digest, size: bytes.byteLength };
  };
  const { os, architecture } = hostPlatform();
  const config = await put(mediaTypes.imageConfig, {
    os,
    architecture,
    config: { Cmd: ['/usr/bin/python3', programPath] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = await put(mediaTypes.imageManifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config,
    layers: layers.map(({ digest, size }) => ({ mediaType: mediaTypes.layerGzip, digest, size })),
  });
  const annotations = { 'org.opencontainers.image.ref.name': 'demo' };
  const index = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [{ ...manifest, annotations }] };
  await writeFile(path.join(work, 'index.json'), JSON.stringify(index));
  await writeFile(path.join(work, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  return manifest;
}

async function hasProgram(name: string): Promise<boolean> {
  return runChild(name, ['--version']).then(
    () => true,
    () => false,
  );
}
