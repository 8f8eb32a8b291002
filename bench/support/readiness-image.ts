// An image of this machine's programs in six layers, and a seventh with the program that reads a share of it: one manifest per share,
// with the same layers, whose command that is.
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type Fixture, fixture } from './fixture.ts';
import { shell, tool } from './machine.ts';
import { imageFiles, type Workload, workload } from './workload.ts';

export interface ReadinessImage {
  readonly megabytes: number;
  readonly layout: string;
  /** Digests of the layers. */
  readonly layers: readonly string[];
  /** Compressed bytes of all layers. */
  readonly compressed: number;
  /** By percent. Tag `touch-PERCENT` is the manifest that reads so much. */
  readonly touches: ReadonlyMap<number, Touched>;
  /** The same files outside any container, to know the right answer. */
  readonly unpacked: string;
}

export type Touched = Pick<Workload, 'bytes' | 'compressed'>;

export const touchPercents = [2, 10, 30, 100] as const;

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

const layerCount = 6;

/** Path in the image of what is read. */
export function touchList(percent: number): string {
  return `/bench/touch-${percent}`;
}

export async function readinessImage(megabytes: number): Promise<ReadinessImage> {
  const made = await fixture(`readiness-${megabytes}`, (source) => fill(source, megabytes));
  const about = readFileSync(`${made.unpacked}/bench/about.json`, 'utf8');
  addCommands(made);
  const [manifest] = manifestsOf(made.layout);
  if (manifest === undefined) throw new Error(`${made.layout} has no image`);
  const described = (read(made.layout, manifest) as Manifest).layers;
  return {
    megabytes,
    layout: made.layout,
    layers: described.map(({ digest }) => digest),
    compressed: described.reduce((sum, { size }) => sum + size, 0),
    touches: new Map(Object.entries(JSON.parse(about) as Record<string, Touched>).map(([k, v]) => [Number(k), v])),
    unpacked: made.unpacked,
  };
}

async function fill(source: string, megabytes: number): Promise<void> {
  // Whole directories, chosen by a digest of their names so that it is not the alphabet that chooses, until there is enough.
  await shell(`cd ${source} && mkdir ${Array.from({ length: layerCount }, (_, i) => `layer-${i}`).join(' ')}
    find /usr/lib /usr/bin /usr/share -xdev -type f -size -32768k -printf '%s %h %p\\n' | python3 -c '
import hashlib, sys
directories = {}
for line in sys.stdin.buffer:
    size, directory, path = line.rstrip(b"\\n").split(b" ", 2)
    if int(size) and b" " not in path: directories.setdefault(directory, []).append((path, int(size)))
left = ${megabytes} * 1000000
order = sorted(directories, key=lambda name: hashlib.sha256(name).digest())
for number, directory in enumerate(order):
    for path, size in sorted(directories[directory])[:200]:
        if size > left: continue
        left -= size
        with open("list-%d" % (number % ${layerCount}), "ab") as out: out.write(path + b"\\0")
'
    for i in $(seq 0 ${layerCount - 1}); do touch list-$i; tar -cf - --null -T list-$i 2>/dev/null | tar -xf - -C layer-$i; rm list-$i; done
    mkdir unpacked && cp -al layer-*/. unpacked/ 2>/dev/null`);
  const files = await imageFiles(`${source}/unpacked`);
  await shell(`rm -r ${source}/unpacked`);
  const folder = `${source}/layer-${layerCount}/bench`;
  mkdirSync(folder, { recursive: true });
  copyFileSync(tool('reader', '-static'), `${folder}/reader`);
  const about: Record<number, Touched> = {};
  for (const percent of touchPercents) {
    const { list, bytes, compressed } = workload(files, percent / 100, percent);
    writeFileSync(`${source}/layer-${layerCount}${touchList(percent)}`, list);
    about[percent] = { bytes, compressed };
  }
  writeFileSync(`${folder}/about.json`, JSON.stringify(about));
}

function addCommands({ layout }: Fixture): void {
  const tagged = manifestsOf(layout);
  const [latest] = tagged;
  if (latest === undefined || tagged.length > 1) return;
  const manifest = read(layout, latest) as Manifest;
  const config = read(layout, manifest.config) as { config: object };
  const manifests = touchPercents.map((percent) => {
    const command = { ...config, config: { ...config.config, Cmd: ['/bench/reader', touchList(percent)] } };
    const described = put(
      layout,
      { ...manifest, config: put(layout, command, manifest.config.mediaType) },
      latest.mediaType,
    );
    return { ...described, annotations: { 'org.opencontainers.image.ref.name': `touch-${percent}` } };
  });
  writeFileSync(`${layout}/index.json.new`, JSON.stringify({ schemaVersion: 2, manifests: [latest, ...manifests] }));
  renameSync(`${layout}/index.json.new`, `${layout}/index.json`);
}

function manifestsOf(layout: string): Descriptor[] {
  return (JSON.parse(readFileSync(`${layout}/index.json`, 'utf8')) as { manifests: Descriptor[] }).manifests;
}

function read(layout: string, { digest }: Descriptor): unknown {
  return JSON.parse(readFileSync(`${layout}/blobs/sha256/${digest.slice(7)}`, 'utf8'));
}

function put(layout: string, value: unknown, mediaType: string): Descriptor {
  const text = JSON.stringify(value);
  const hex = createHash('sha256').update(text).digest('hex');
  const path = `${layout}/blobs/sha256/${hex}`;
  if (!existsSync(path)) writeFileSync(path, text);
  return { mediaType, digest: `sha256:${hex}`, size: Buffer.byteLength(text) };
}
