// The demo's image, and one of a gigabyte of layers whose upper part is the demo's: both print the same answer from the same files.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { checkout, scale, shell, workDir } from './machine.ts';

export interface ContainerImage {
  readonly name: string;
  readonly layout: string;
  /** Compressed bytes of all layers. */
  readonly bytes: number;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface DemoModule {
  readonly demoImage: (
    store: string,
    say: (text: string) => void,
    signal: AbortSignal,
  ) => Promise<{ readonly layout: string; readonly manifest: Descriptor }>;
}

/** Layers of 96 MiB each that nothing reads: models, data, other programs. */
const bulkLayers = 9;
const bulkMiB = Math.ceil(96 * scale);

export async function demoContainer(): Promise<ContainerImage> {
  const { demoImage } = (await import(`${checkout}/dist/cli/demo/build-image.js`)) as DemoModule;
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const { layout } = await demoImage(`${workDir}/demo-image`, say, new AbortController().signal);
  return { name: 'demo', layout, bytes: layerBytes(layout) };
}

export async function gigabyteContainer(): Promise<ContainerImage> {
  const demo = await demoContainer();
  const layout = `${workDir}/fixtures/gigabyte-${bulkMiB}`;
  if (!existsSync(layout)) {
    const fresh = `${layout}.new`;
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(`${fresh}/blobs/sha256`, { recursive: true });
    await shell(
      `cp -l ${demo.layout}/blobs/sha256/* ${fresh}/blobs/sha256/ || cp ${demo.layout}/blobs/sha256/* ${fresh}/blobs/sha256/`,
    );
    await writeManifest(fresh, demo.layout);
    renameSync(fresh, layout);
  }
  return { name: 'gigabyte', layout, bytes: layerBytes(layout) };
}

async function writeManifest(layout: string, demo: string): Promise<void> {
  const manifest = read(demo, top(demo)) as { config: Descriptor; layers: Descriptor[] };
  const config = read(demo, manifest.config) as { rootfs: { diff_ids: string[] } };
  const layers: Descriptor[] = [];
  const diffIds: string[] = [];
  for (let i = 0; i < bulkLayers; i += 1) {
    const { layer, diffId } = await bulkLayer(layout, i);
    layers.push(layer);
    diffIds.push(diffId);
  }
  const put = (value: unknown, mediaType: string): Descriptor => {
    const text = JSON.stringify(value);
    const hex = createHash('sha256').update(text).digest('hex');
    writeFileSync(`${layout}/blobs/sha256/${hex}`, text);
    return { mediaType, digest: `sha256:${hex}`, size: Buffer.byteLength(text) };
  };
  const rootfs = { ...config.rootfs, diff_ids: [...diffIds, ...config.rootfs.diff_ids] };
  const configDescriptor = put({ ...config, rootfs }, manifest.config.mediaType);
  const descriptor = put(
    { ...manifest, config: configDescriptor, layers: [...layers, ...manifest.layers] },
    'application/vnd.oci.image.manifest.v1+json',
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'demo' };
  writeFileSync(
    `${layout}/index.json`,
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...descriptor, annotations }] }),
  );
  writeFileSync(`${layout}/oci-layout`, JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

/** Nearly incompressible, as models and archives are. */
async function bulkLayer(layout: string, i: number): Promise<{ layer: Descriptor; diffId: string }> {
  const tar = `${layout}/bulk.tar`;
  await shell(`mkdir -p ${layout}/bulk/opt/bulk-${i}
    for part in 1 2 3 4; do
      openssl enc -aes-128-ctr -pass pass:${i}-$part -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c ${(bulkMiB << 20) >> 2} >${layout}/bulk/opt/bulk-${i}/part-$part || true
    done
    tar -C ${layout}/bulk --sort=name --mtime=@0 --owner=0 --group=0 -cf ${tar} opt && rm -r ${layout}/bulk
    (pigz -1 -n -c ${tar} || gzip -1 -n -c ${tar}) >${tar}.gz`);
  const diffId = `sha256:${(await shell(`sha256sum <${tar}`)).slice(0, 64)}`;
  const hex = (await shell(`sha256sum <${tar}.gz`)).slice(0, 64);
  await shell(`rm ${tar}; mv ${tar}.gz ${layout}/blobs/sha256/${hex}`);
  const size = statSync(`${layout}/blobs/sha256/${hex}`).size;
  return { layer: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: `sha256:${hex}`, size }, diffId };
}

function read(layout: string, { digest }: Descriptor): unknown {
  return JSON.parse(readFileSync(`${layout}/blobs/sha256/${digest.slice(7)}`, 'utf8'));
}

function top(layout: string): Descriptor {
  const { manifests } = JSON.parse(readFileSync(`${layout}/index.json`, 'utf8')) as { manifests: Descriptor[] };
  const [manifest] = manifests;
  if (manifest === undefined) throw new Error(`${layout} has no image: ${readdirSync(layout).join(', ')}`);
  return manifest;
}

function layerBytes(layout: string): number {
  const { layers } = read(layout, top(layout)) as { layers: Descriptor[] };
  return layers.reduce((sum, { size }) => sum + size, 0);
}
