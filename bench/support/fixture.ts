// Inputs of the benchmarks, made once and kept: an OCI layout per image, and the same tree unpacked on the disk's own filesystem.
import { createHash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { shell, workDir } from './machine.ts';

export interface Fixture {
  /** `oci:DIR:latest`, as peel takes it. */
  readonly image: string;
  /** Folder of the OCI layout. */
  readonly layout: string;
  /** The same files on the disk's own filesystem. */
  readonly unpacked: string;
  /** Path of the first layer's blob. */
  readonly layer: string;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** Builds an image from the folders that `fill` (a shell script, run in an empty folder, or what is given its path) makes: one layer for each `layer-*`. */
export async function fixture(name: string, fill: string | ((source: string) => Promise<void>)): Promise<Fixture> {
  const home = `${workDir}/fixtures/${name}`;
  if (!existsSync(home)) {
    const fresh = `${home}.new`;
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(`${fresh}/source`, { recursive: true });
    if (typeof fill === 'string') await shell(`cd ${fresh}/source && ${fill}`);
    else await fill(`${fresh}/source`);
    await writeLayout(fresh, name);
    rmSync(`${fresh}/source`, { recursive: true });
    renameSync(fresh, home);
  }
  const layers = readdirSync(`${home}/layers`).sort();
  return {
    image: `oci:${home}/layout:latest`,
    layout: `${home}/layout`,
    unpacked: `${home}/unpacked`,
    layer: `${home}/layers/${layers[0]}`,
  };
}

async function writeLayout(home: string, name: string): Promise<void> {
  const blobs = `${home}/layout/blobs/sha256`;
  for (const folder of [blobs, `${home}/layers`, `${home}/unpacked`]) mkdirSync(folder, { recursive: true });
  const layers = [];
  const diffIds = [];
  for (const folder of readdirSync(`${home}/source`).sort()) {
    const tar = `${home}/${folder}.tar`;
    const blob = `${home}/layers/${folder}.tar.gz`;
    await shell(
      `tar -C ${home}/source/${folder} --sort=name -cf ${tar} . && tar -xf ${tar} -C ${home}/unpacked && gzip -6 -n <${tar} >${blob}`,
    );
    diffIds.push(`sha256:${await sha256(tar)}`);
    const hex = await sha256(blob);
    await shell(`ln ${blob} ${blobs}/${hex}; rm ${tar}`);
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
    layers.push({ mediaType, digest: `sha256:${hex}`, size: statSync(blob).size });
  }
  const put = async (value: unknown, mediaType: string) => {
    const text = JSON.stringify(value);
    const hex = createHash('sha256').update(text).digest('hex');
    writeFileSync(`${blobs}/${hex}`, text);
    return { mediaType, digest: `sha256:${hex}`, size: Buffer.byteLength(text) };
  };
  const config = await put(
    { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: diffIds } },
    'application/vnd.oci.image.config.v1+json',
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await put({ schemaVersion: 2, mediaType, config, layers }, mediaType);
  const annotations = { 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(`${home}/layout/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(
    `${home}/layout/index.json`,
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }], annotations: { name } }),
  );
}

/** 20 000 small files in 400 directories. */
export function manyFiles(): Promise<Fixture> {
  return fixture(
    'many-files',
    `python3 - <<'PY'
import os
for d in range(400):
    folder = f'layer-0/usr/share/d{d:03}'
    os.makedirs(folder)
    for f in range(50):
        with open(f'{folder}/file-{f:02}.txt', 'w') as out:
            out.write(f'{d} {f}\\n' * (1 + (d * 50 + f) % 40))
PY`,
  );
}

/** Directories, links and files below 64 KiB of this machine's /usr: tens of thousands of names, as they lie in a real image. */
export function systemTree(): Promise<Fixture> {
  return fixture(
    'system-tree',
    `mkdir layer-0
      find /usr -xdev \\( -type d -o -type l -o -type f -size -64k \\) -print0 | LC_ALL=C sort -z |
        tar -cf - --no-recursion --null -T - | tar -xf - -C layer-0`,
  );
}

/** One file of 512 MiB, half of it incompressible, and a small one. */
export function oneLargeFile(): Promise<Fixture> {
  return fixture(
    'one-large-file',
    `python3 - <<'PY'
import os, random
os.makedirs('layer-0/data')
source = random.Random(7)
with open('layer-0/data/large', 'wb') as out:
    for _ in range(512):
        out.write(source.randbytes(1 << 19) + bytes(source.choices(b'peel the onion ', k=1 << 10)) * 512)
with open('layer-0/data/small', 'wb') as out:
    out.write(b'small')
PY`,
  );
}

/** A layer of real programs and libraries of this machine, about \`megabytes\` of tar. */
export function programs(megabytes: number): Promise<Fixture> {
  return fixture(
    `programs-${megabytes}`,
    `mkdir layer-0
      find /usr/lib /usr/bin /usr/share -xdev -type f -size +16k -size -65536k -printf '%s %p\\n' | LC_ALL=C sort -k 2 |
        awk -v left=$((${megabytes} * 1000000)) '{ left -= $1; if (left > 0) print substr($0, length($1) + 2) }' |
        tar -cf - -T - | tar -xf - -C layer-0`,
  );
}

/** `count` layers, of `megabytes` compressed in all: files of 1 KiB to 16 MiB, most bytes in large ones, two thirds of them incompressible. */
export function mixedLayers(count: number, megabytes: number): Promise<Fixture> {
  return fixture(
    `mixed-${count}-${megabytes}`,
    `python3 - <<'PY'
import os, random
text = b''.join(b'line %d of a file that packs well\\n' % (i % 5000) for i in range(1 << 16))
for layer in range(${count}):
    source = random.Random(layer)
    left = ${megabytes} * 1000000 // ${count}
    number = 0
    while left > 0:
        size = min(left, 1 << source.choice([10, 12, 12, 14, 14, 16, 16, 18, 20, 22, 24]))
        folder = f'layer-{layer:03}/opt/l{layer:03}/d{number // 100:04}'
        os.makedirs(folder, exist_ok=True)
        with open(f'{folder}/{number:06}', 'wb') as out:
            out.write(source.randbytes(size))
            start = source.randrange(len(text))
            for written in range(0, size // 2, len(text)):
                out.write(text[start:start + size // 2 - written])
                start = 0
        left -= size
        number += 1
PY`,
  );
}

/** `count` layers of 40 files each. */
export function manyLayers(count: number): Promise<Fixture> {
  return fixture(
    `layers-${count}`,
    `python3 - <<'PY'
import os
for layer in range(${count}):
    folder = f'layer-{layer:03}/opt/l{layer:03}'
    os.makedirs(folder)
    for f in range(40):
        with open(f'{folder}/{f:02}', 'wb') as out:
            out.write(os.urandom(2000))
PY`,
  );
}
